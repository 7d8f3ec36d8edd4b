// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const operationsPath = "/apis/virtualization.deckhouse.io/v1alpha2/namespaces/team/virtualmachineoperations"

// operation is one as the server shows it.
func operation(phase, progress, message string) string {
	return fmt.Sprintf(`{"apiVersion":"virtualization.deckhouse.io/v1alpha2","kind":"VirtualMachineOperation",
"metadata":{"name":"op","namespace":"team","uid":"1","resourceVersion":"7"},"spec":{"type":"Stop","virtualMachineName":"web"},
"status":{"phase":%q,"progress":%q,"conditions":[{"type":"Completed","status":"False","reason":"X","message":%q}]}}`, phase, progress, message)
}

func event(kind, object string) string {
	return fmt.Sprintf(`{"type":%q,"object":%s}`, kind, strings.ReplaceAll(object, "\n", ""))
}

// accepting is a cluster that takes an operation, shows it as first, and then what
// the events say.
func accepting(first string, events ...string) *fakeCluster {
	return &fakeCluster{
		objects: map[string]string{operationsPath: `{"apiVersion":"virtualization.deckhouse.io/v1alpha2","kind":"VirtualMachineOperationList","metadata":{"resourceVersion":"7"},"items":[` + first + `]}`},
		answer:  func(string, string) (int, string) { return 201, operation("", "", "") },
		events:  events,
	}
}

// What is sent is what existing clients send.
func TestOrders(t *testing.T) {
	for _, test := range []struct {
		args []string
		want string
	}{
		{[]string{"start", "web"}, `{"type":"Start","virtualMachineName":"web"}`},
		{[]string{"stop", "web"}, `{"type":"Stop","virtualMachineName":"web"}`},
		{[]string{"stop", "--force", "web"}, `{"force":true,"type":"Stop","virtualMachineName":"web"}`},
		{[]string{"restart", "vm/web"}, `{"type":"Restart","virtualMachineName":"web"}`},
		{[]string{"evict", "web.team"}, `{"type":"Evict","virtualMachineName":"web"}`},
		{
			[]string{"migrate", "web", "--target-node=node-2"},
			`{"migrate":{"nodeSelector":{"kubernetes.io/hostname":"node-2"}},"type":"Migrate","virtualMachineName":"web"}`,
		},
	} {
		fake := accepting(operation("InProgress", "", ""))
		if got := call(t, fake, nil, test.args...); got.err != nil || len(fake.posted) != 1 {
			t.Fatalf("%v: %v, %q", test.args, got.err, fake.posted)
		}
		var sent struct {
			Metadata struct{ GenerateName string }
			Spec     map[string]any
		}
		if err := json.Unmarshal([]byte(fake.posted[0]), &sent); err != nil {
			t.Fatal(err)
		}
		spec, _ := json.Marshal(sent.Spec)
		if want := "web-" + test.args[0] + "-"; string(spec) != test.want || sent.Metadata.GenerateName != want {
			t.Errorf("%v: sent %s named %s, want %s named %s", test.args, spec, sent.Metadata.GenerateName, test.want, want)
		}
	}
}

func TestFollowingAnOperation(t *testing.T) {
	pending := operation("Pending", "", "another migration comes first")
	running := event("MODIFIED", operation("InProgress", "10%", "memory is being copied"))
	done := event("MODIFIED", operation("Completed", "100%", ""))
	for _, test := range []struct {
		name   string
		args   []string
		fake   *fakeCluster
		want   string // in the error
		said   string
		silent string
	}{
		{name: "it returns when it has begun", fake: accepting(pending, running), said: "team/web: InProgress 10%: memory is being copied", silent: "100%"},
		{name: "it waits for the end", args: []string{"--wait"}, fake: accepting(pending, running, done), said: "team/web: Completed 100%"},
		{name: "it does not wait", args: []string{"--create-only"}, fake: accepting(pending), said: "team/web: operation op was created", silent: "Pending"},
		{
			name: "it failed", fake: accepting(pending, event("MODIFIED", operation("Failed", "", "no node has room"))),
			want: "stop team/web: operation op failed: no node has room",
		},
		{
			name: "another took its place", args: []string{"-w"}, fake: accepting(operation("Superseded", "", "by op-2")),
			want: "a later operation took the place of op: by op-2",
		},
		{name: "it was cancelled", args: []string{"-w"}, fake: accepting(pending, running, event("DELETED", pending)), want: "was deleted, which cancels it"},
		{name: "it is being cancelled", args: []string{"-w"}, fake: accepting(pending, event("MODIFIED", operation("Terminating", "", ""))), want: "was deleted, which cancels it"},
		{name: "it is gone already", args: []string{"-w"}, fake: accepting(""), want: "was deleted, which cancels it"},
		{name: "it takes too long", args: []string{"-w", "--timeout=300ms"}, fake: accepting(pending, running), want: "--timeout of 300ms is over; the operation goes on"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := call(t, test.fake, nil, append([]string{"stop", "web"}, test.args...)...)
			if test.want == "" && got.err != nil {
				t.Errorf("got %v", got.err)
			} else if test.want != "" {
				fails(t, got.err, test.want)
			}
			if !strings.Contains(got.said, test.said) || test.silent != "" && strings.Contains(got.said, test.silent) {
				t.Errorf("it said %q, want %q and not %q", got.said, test.said, test.silent)
			}
		})
	}
}

// A refusal of one machine does not keep the others from being served, and is in the
// words of the module.
func TestRefusedOrders(t *testing.T) {
	fake := accepting(operation("Completed", "", ""))
	fake.answer = func(_, body string) (int, string) {
		if strings.Contains(body, `"db"`) {
			text, _ := json.Marshal(status(403, metav1.StatusReasonForbidden, `admission webhook "v.example" denied the request: Stop needs a machine in phase Running; db is Stopped`))
			return 403, string(text)
		}
		return 201, operation("", "", "")
	}
	got := call(t, fake, nil, "stop", "db", "web")
	if got.err == nil || got.err.Error() != "stop team/db: Stop needs a machine in phase Running; db is Stopped" || len(fake.posted) != 2 {
		t.Errorf("got %v after %d orders", got.err, len(fake.posted))
	}
}

func TestChoosingMachines(t *testing.T) {
	fake := accepting(operation("InProgress", "", ""))
	fake.objects[machinesPath] = twoMachines
	if got := call(t, fake, nil, "start", "--all", "--create-only"); got.err != nil || len(fake.posted) != 2 {
		t.Errorf("%v, %d orders, want 2", got.err, len(fake.posted))
	}
	for _, args := range [][]string{{"start"}, {"start", "web", "--all"}, {"start", "web", "-l", "a=b"}} {
		fails(t, call(t, fake, nil, args...).err, "give machines, or --all, or --selector")
	}
	fails(t, call(t, fake, nil, "start", "-l", "a in").err, "--selector")
	empty := &fakeCluster{objects: map[string]string{machinesPath: `{"apiVersion":"virtualization.deckhouse.io/v1alpha2","kind":"VirtualMachineList","items":[]}`}}
	fails(t, call(t, empty, nil, "start", "-l", "a=b").err, "no machine in team is meant")
	fails(t, call(t, &fakeCluster{}, nil, "start", "web", "--force").err, "unknown flag: --force")
	fails(t, call(t, &fakeCluster{}, nil, "stop", "web", "--target-node=a").err, "unknown flag: --target-node")
}
