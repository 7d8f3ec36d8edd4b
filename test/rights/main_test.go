// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// line is a line of an audit log.
func line(user, verb, object, decision string) string {
	return because(user, verb, object, decision, `RBAC: allowed by ClusterRoleBinding "d8:virtualization:x" of ClusterRole "d8:virtualization:x" to y`)
}

func because(user, verb, object, decision, reason string) string {
	return fmt.Sprintf(`{"kind":"Event","verb":%q,"user":{"username":%q},"objectRef":%s,`+
		`"annotations":{"authorization.k8s.io/decision":%q,"authorization.k8s.io/reason":%q}}`+"\n", verb, user, object, decision, reason)
}

const controller = "system:serviceaccount:d8-virtualization:virtualization-controller"

func TestRead(t *testing.T) {
	for _, test := range []struct{ title, line, want string }{
		{
			"a write to a project", line(controller, "create", `{"resource":"virtualmachines","namespace":"team","apiGroup":"kubevirt.io"}`, "allow"),
			"virtualization-controller anywhere create kubevirt.io/virtualmachines",
		},
		{
			"in the module's namespace", line(controller, "get", `{"resource":"services","namespace":"d8-virtualization"}`, "allow"),
			"virtualization-controller module get services",
		},
		{
			"a subresource", line(controller, "patch", `{"resource":"virtualmachines","apiGroup":"virtualization.deckhouse.io","subresource":"status"}`, "allow"),
			"virtualization-controller anywhere patch virtualization.deckhouse.io/virtualmachines:status",
		},
		{"was forbidden", line(controller, "get", `{"resource":"secrets"}`, "forbid"), ""},
		{"no resource", line(controller, "get", `null`, "allow"), ""},
		{
			"by a role of Kubernetes", because(controller, "create", `{"resource":"subjectaccessreviews","apiGroup":"authorization.k8s.io"}`, "allow",
				`RBAC: allowed by ClusterRoleBinding "d8:virtualization:virtualization-api:auth-delegator" of ClusterRole "system:auth-delegator" to x`), "",
		},
		{
			"by a role for aggregated servers", because(controller, "get", `{"resource":"configmaps","namespace":"kube-system"}`, "allow",
				`RBAC: allowed by RoleBinding "x/kube-system" of Role "extension-apiserver-authentication-reader" to x`), "",
		},
		{"somebody else", line("admin", "get", `{"resource":"secrets"}`, "allow"), ""},
		{"an account of that name elsewhere", line("system:serviceaccount:default:virtualization-controller", "get", `{"resource":"secrets"}`, "allow"), ""},
		{"KubeVirt", line("system:serviceaccount:d8-virtualization:kubevirt-operator", "update", `{"resource":"kubevirts","apiGroup":"kubevirt.io"}`, "allow"), ""},
		{"CDI", line("system:serviceaccount:d8-virtualization:cdi-sa", "create", `{"resource":"pods"}`, "allow"), ""},
		{"half a line", line(controller, "get", `{"resource":"secrets"}`, "allow")[:120], ""},
	} {
		t.Run(test.title, func(t *testing.T) {
			rights := map[string]bool{}
			if err := read(strings.NewReader(test.line), rights); err != nil {
				t.Fatal(err)
			}
			if test.want == "" && len(rights) == 0 || test.want != "" && len(rights) == 1 && rights[test.want] {
				return
			}
			t.Errorf("got %v, want %q", rights, test.want)
		})
	}
}

func TestRunAddsToTheList(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("audit-2026.log", line(controller, "list", `{"resource":"nodes"}`, "allow"))
	write("audit.log", line(controller, "watch", `{"resource":"nodes"}`, "allow"))
	write("list", "# old\nvm-router anywhere watch nodes\n")
	if err := run(dir, filepath.Join(dir, "list")); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "list"))
	want := header + "virtualization-controller anywhere list nodes\nvirtualization-controller anywhere watch nodes\nvm-router anywhere watch nodes\n"
	if err != nil || string(got) != want {
		t.Errorf("got %s (%v)\nwant %s", got, err, want)
	}
}

func TestRunExplains(t *testing.T) {
	dir := t.TempDir()
	if err := run(dir, filepath.Join(dir, "list")); err == nil || !strings.Contains(err.Error(), "there is no audit*.log; name the directory") {
		t.Errorf("got %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "list")); err == nil {
		t.Error("a list was made of nothing")
	}
	if got := format(nil); got != header {
		t.Errorf("nothing is %q", got)
	}
}
