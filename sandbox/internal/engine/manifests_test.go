// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// writeCommand makes a command that prints a text when its arguments hold a word.
func writeCommand(t *testing.T, dir, name string, prints map[string]string) {
	t.Helper()
	script := "#!/bin/sh\ncase \"$*\" in\n"
	for word, text := range prints {
		script += "*\"" + word + "\"*) cat <<'END'\n" + text + "END\n;;\n"
	}
	script += "*) echo unexpected \"$*\" >&2; exit 1;;\nesac\n"
	if err := os.WriteFile(filepath.Join(dir, name), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
}

const someDefinition = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  creationTimestamp: null
  name: things.example.org
spec:
  group: example.org
status: {}
`

const someRights = `---
apiVersion: v1
kind: ServiceAccount
metadata:
  name: operator
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels: {kept: "yes"}
  name: operator-cluster
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: operator
roleRef:
  kind: ClusterRole
  name: operator-cluster
`

const wantedDefinition = `# Generated from the release that third_party pins (make generate); do not edit.
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  labels:
    heritage: deckhouse
    module: virtualization
  name: things.example.org
spec:
  group: example.org
`

const wantedRights = `# Generated from the release that third_party pins (make generate); do not edit.
---
apiVersion: v1
kind: ServiceAccount
metadata:
  labels:
    app: kubevirt-operator
    heritage: deckhouse
    module: virtualization
  name: operator
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  labels:
    app: kubevirt-operator
    heritage: deckhouse
    kept: "yes"
    module: virtualization
  name: d8:virtualization:kubevirt-operator
rules: []
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  labels:
    app: kubevirt-operator
    heritage: deckhouse
    module: virtualization
  name: d8:virtualization:kubevirt-operator
roleRef:
  kind: ClusterRole
  name: d8:virtualization:kubevirt-operator
`

func TestGenerateWritesTheModulesFiles(t *testing.T) {
	commands, repository := t.TempDir(), t.TempDir()
	writeCommand(t, commands, "resource-generator", map[string]string{
		"-type=kv -namespace=d8-virtualization": someDefinition, "-type=operator-rbac": someRights,
	})
	writeCommand(t, commands, "manifest-generator", map[string]string{
		"operator-crd": someDefinition, "operator-cluster-rbac": someRights, "=operator-rbac": "---\nkind: Role\n",
	})
	folders := map[string]string{}
	for _, release := range Releases() {
		folders[release] = commands
	}
	for range 2 {
		if err := Generate(t.Context(), repository, folders); err != nil {
			t.Fatal(err)
		}
	}
	expectFile(t, repository, "crds/kubevirts.kubevirt.io.yaml", wantedDefinition)
	expectFile(t, repository, "templates/kubevirt/operator/rbac-for-us.yaml", wantedRights)
	rights, err := os.ReadFile(filepath.Join(repository, "templates/cdi/operator/rbac-for-us.yaml"))
	if err != nil || !strings.Contains(string(rights), "kind: Role\nmetadata:\n  labels:\n    app: cdi-operator\n") {
		t.Errorf("CDI's rights are %s, %v", rights, err)
	}
}

func expectFile(t *testing.T, dir, name, want string) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != want {
		t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
	}
}

func TestGenerateRefuses(t *testing.T) {
	tests := map[string]struct {
		definition, rights string
		want               string
	}{
		"a template in what is printed": {someDefinition, strings.Replace(someRights, "yes", "{{ x }}", 1), "which Helm would take for a template"},
		"no definition":                 {"---\n", someRights, "crds/kubevirts.kubevirt.io.yaml would be empty"},
		"no YAML":                       {"a: b: c\n", someRights, "manifests of kubevirt-operator: "},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			commands := t.TempDir()
			writeCommand(t, commands, "resource-generator", map[string]string{"-type=kv": test.definition, "-type=operator-rbac": test.rights})
			err := Generate(t.Context(), t.TempDir(), map[string]string{"kubevirt": commands})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
	if err := Generate(t.Context(), t.TempDir(), nil); err == nil || !strings.Contains(err.Error(), "the commands of kubevirt are not built") {
		t.Errorf("got error %v", err)
	}
	commands := t.TempDir()
	writeCommand(t, commands, "resource-generator", nil)
	err := Generate(t.Context(), t.TempDir(), map[string]string{"kubevirt": commands})
	if err == nil || !strings.Contains(err.Error(), "resource-generator -type=kv") || !strings.Contains(err.Error(), "unexpected -type=kv") {
		t.Errorf("got error %v", err)
	}
}
