// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var (
	marked = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now    = marked.Add(time.Minute)
)

// observation is a machine whose guest was told to leave the cordoned node-1 a
// minute ago, and which nothing was done for yet.
func observation(changes ...func(*Observed)) Observed {
	o := Observed{
		Machine: &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "uid-of-web"},
			Status: v1alpha2.VirtualMachineStatus{Phase: "Running", Conditions: []metav1.Condition{
				{Type: "Migratable", Status: "True", Reason: "VirtualMachineMigratable"},
			}},
		},
		Guest: &virtv1.VirtualMachineInstance{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "uid-of-guest"},
			Status: virtv1.VirtualMachineInstanceStatus{
				Phase: "Running", NodeName: "node-1", EvacuationNodeName: "node-1",
				Conditions: []virtv1.VirtualMachineInstanceCondition{
					{Type: "EvictionRequested", Status: "True", LastTransitionTime: metav1.NewTime(marked)},
				},
			},
		},
		Node: &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1"}, Spec: corev1.NodeSpec{Unschedulable: true}},
		Now:  now,
	}
	for _, change := range changes {
		change(&o)
	}
	return o
}

// ordered makes an operation of this package that was ordered so long after the
// mark.
func orderedAfter(after time.Duration, phase v1alpha2.OperationPhase, annotations ...string) v1alpha2.VirtualMachineOperation {
	at := metav1.NewTime(marked.Add(after))
	out := v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: "evacuation-web-" + after.String(), UID: types.UID("uid-of-" + after.String()), CreationTimestamp: at,
			Annotations: map[string]string{"virtualization.deckhouse.io/evacuated-node": "node-1"},
			Finalizers:  []string{"virtualization.deckhouse.io/vmop-protection-by-evacuation-controller"},
		},
		Spec: v1alpha2.VirtualMachineOperationSpec{Type: "Evict", VirtualMachineName: "web"},
		Status: v1alpha2.VirtualMachineOperationStatus{Phase: phase, Conditions: []metav1.Condition{
			{Type: "Completed", Status: "False", LastTransitionTime: at},
		}},
	}
	for _, key := range annotations {
		out.Annotations[key] = "true"
	}
	return out
}

const cordonNoted = "virtualization.deckhouse.io/evacuated-node-cordoned"

func with(operations ...v1alpha2.VirtualMachineOperation) func(*Observed) {
	return func(o *Observed) { o.Operations = operations }
}

func uncordoned(o *Observed) { o.Node.Spec.Unschedulable = false }

func stuck(o *Observed) {
	o.Machine.Status.Conditions = []metav1.Condition{{Type: "Migratable", Status: "False", Message: "It has a GPU."}}
}

// outcome is a decision in one word for tables.
func outcome(p plan) string {
	var words []string
	if len(p.Create) > 0 {
		words = append(words, "order")
	}
	if len(p.Delete) > 0 {
		words = append(words, "delete")
	}
	if p.takeback {
		words = append(words, "takeback")
	}
	if p.RequeueAfter > 0 {
		words = append(words, "in "+p.RequeueAfter.String())
	}
	if len(words) == 0 {
		return "nothing"
	}
	return strings.Join(words, ", ")
}

func TestDecide(t *testing.T) {
	foreign := orderedAfter(0, "InProgress")
	foreign.Annotations = nil
	leaving := orderedAfter(0, "InProgress", cordonNoted)
	leaving.DeletionTimestamp = &metav1.Time{Time: now}
	failed := orderedAfter(50*time.Second, "Failed", cordonNoted)
	tests := []struct {
		name   string
		change []func(*Observed)
		want   string
		event  string
	}{
		{"the guest has to leave", nil, "order", "EvacuationOrdered"},
		{"from a node that nobody empties", []func(*Observed){uncordoned}, "order", "EvacuationOrdered"},
		{"no mark", []func(*Observed){func(o *Observed) { o.Guest.Status.EvacuationNodeName = "" }}, "nothing", ""},
		{"no guest", []func(*Observed){func(o *Observed) { o.Guest = nil }}, "nothing", ""},
		{"a guest that has ended", []func(*Observed){func(o *Observed) { o.Guest.Status.Phase = "Succeeded" }}, "nothing", ""},
		{"a guest that is ending", []func(*Observed){func(o *Observed) { o.Guest.DeletionTimestamp = &metav1.Time{Time: now} }}, "nothing", ""},
		{"a machine that is being deleted", []func(*Observed){func(o *Observed) { o.Machine.DeletionTimestamp = &metav1.Time{Time: now} }}, "nothing", ""},
		{"a mark of a node that the guest has left", []func(*Observed){func(o *Observed) { o.Guest.Status.NodeName = "node-2" }}, "takeback", ""},
		{"ordered already", []func(*Observed){with(orderedAfter(0, "", cordonNoted))}, "nothing", ""},
		{"under way", []func(*Observed){with(orderedAfter(0, "InProgress", cordonNoted))}, "nothing", ""},
		{"uncordoned meanwhile", []func(*Observed){with(orderedAfter(0, "InProgress", cordonNoted)), uncordoned}, "delete", "EvacuationCancelled"},
		{"uncordoned from the start", []func(*Observed){with(orderedAfter(0, "InProgress")), uncordoned}, "nothing", ""},
		{"being called off", []func(*Observed){with(leaving), uncordoned}, "nothing", ""},
		{"somebody else's operation", []func(*Observed){with(foreign), uncordoned}, "nothing", ""},
		{"failed a moment ago", []func(*Observed){with(failed)}, "in 5s", ""},
		{"failed a while ago", []func(*Observed){with(orderedAfter(30*time.Second, "Failed", cordonNoted))}, "order", "EvacuationOrdered"},
		{"failed twice", []func(*Observed){with(orderedAfter(0, "Failed", cordonNoted), orderedAfter(40*time.Second, "Failed", cordonNoted))}, "in 10s", ""},
		{"failed, then uncordoned", []func(*Observed){with(failed), uncordoned}, "takeback", "EvacuationCancelled"},
		{"failed for an earlier mark", []func(*Observed){with(orderedAfter(-time.Hour, "Failed", cordonNoted)), uncordoned}, "order", "EvacuationOrdered"},
		{"cannot move", []func(*Observed){stuck}, "nothing", ""},
		{"cannot move from a node that nobody empties", []func(*Observed){stuck, uncordoned}, "takeback", "EvacuationBlocked"},
		{"nobody knows yet whether it can move", []func(*Observed){func(o *Observed) { o.Machine.Status.Conditions = nil }}, "nothing", ""},
		{"not running", []func(*Observed){func(o *Observed) { o.Machine.Status.Phase = "Pause" }}, "nothing", ""},
		{"the node is gone", []func(*Observed){func(o *Observed) { o.Node = nil }}, "nothing", ""},
		{"the engine has not looked at the mark", []func(*Observed){func(o *Observed) { o.Guest.Status.Conditions = nil }}, "nothing", ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := decide(observation(test.change...))
			if outcome(got) != test.want {
				t.Errorf("%s, want %s", outcome(got), test.want)
			}
			event := ""
			if len(got.Events) > 0 {
				event = got.Events[0].Reason
			}
			if event != test.event {
				t.Errorf("event %q, want %q", event, test.event)
			}
		})
	}
}

func TestTheOrder(t *testing.T) {
	first := decide(observation()).Create[0].(*v1alpha2.VirtualMachineOperation)
	if first.Spec.Type != "Evict" || first.Spec.VirtualMachineName != "web" || first.Spec.Force != nil {
		t.Errorf("spec %+v", first.Spec)
	}
	if !strings.HasPrefix(first.Name, "evacuation-web-") || first.Namespace != "team" {
		t.Errorf("it is called %s/%s", first.Namespace, first.Name)
	}
	if len(first.OwnerReferences) != 1 || first.OwnerReferences[0].UID != "uid-of-web" || len(first.Finalizers) != 1 {
		t.Errorf("metadata %+v", first.ObjectMeta)
	}
	if first.Annotations[cordonNoted] != "true" || first.Annotations["virtualization.deckhouse.io/evacuated-node"] != "node-1" {
		t.Errorf("annotations %v", first.Annotations)
	}
	again := decide(observation()).Create[0]
	if again.GetName() != first.Name {
		t.Errorf("the same order has two names: %s and %s", first.Name, again.GetName())
	}
	others := map[string]func(*Observed){
		"after a failure": with(orderedAfter(0, "Failed", cordonNoted)),
		"of another mark": func(o *Observed) {
			o.Guest.Status.Conditions[0].LastTransitionTime = metav1.NewTime(marked.Add(time.Hour))
		},
		"of another guest":   func(o *Observed) { o.Guest.UID = "another" },
		"of another machine": func(o *Observed) { o.Machine.UID = "another" },
	}
	for name, change := range others {
		if other := decide(observation(change)).Create[0]; other.GetName() == first.Name {
			t.Errorf("%s: the name is the same", name)
		}
	}
	if free := decide(observation(uncordoned)).Create[0]; free.GetAnnotations()[cordonNoted] != "" {
		t.Error("a node that nobody empties counts as cordoned")
	}
}

func TestPause(t *testing.T) {
	for failures, want := range map[int]time.Duration{
		1: 15 * time.Second, 2: 30 * time.Second, 3: time.Minute, 6: 8 * time.Minute, 7: 10 * time.Minute, 1000: 10 * time.Minute,
	} {
		if got := pause(failures); got != want {
			t.Errorf("after %d failures %s, want %s", failures, got, want)
		}
	}
}

func TestGuard(t *testing.T) {
	tests := []struct {
		name      string
		operation func(*v1alpha2.VirtualMachineOperation)
		guest     func(*virtv1.VirtualMachineInstance)
		lets      bool
		takes     bool
	}{
		{name: "under way"},
		{name: "finished", operation: func(o *v1alpha2.VirtualMachineOperation) { o.Status.Phase = "Completed" }, lets: true},
		{name: "deleted", operation: deleted, lets: true, takes: true},
		{
			name: "deleted when it had ended", lets: true,
			operation: func(o *v1alpha2.VirtualMachineOperation) { o.Status.Phase = "Failed"; deleted(o) },
		},
		{
			name: "deleted when the guest had left", operation: deleted, lets: true,
			guest: func(g *virtv1.VirtualMachineInstance) { g.Status.EvacuationNodeName = "" },
		},
		{
			name: "deleted when the guest had to leave another node", operation: deleted, lets: true,
			guest: func(g *virtv1.VirtualMachineInstance) { g.Status.EvacuationNodeName = "node-2" },
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			operation, guest := orderedAfter(0, "InProgress", cordonNoted), observation().Guest
			if test.operation != nil {
				test.operation(&operation)
			}
			if test.guest != nil {
				test.guest(guest)
			}
			var taken string
			got := guardOf(&operation, guest, &taken)
			if (got.Finalizer == "Remove") != test.lets {
				t.Errorf("finalizer %q", got.Finalizer)
			}
			for _, action := range got.Actions {
				if err := action.Run(context.Background()); err != nil {
					t.Fatal(err)
				}
			}
			if (taken == "node-1") != test.takes {
				t.Errorf("the mark of %q was taken back", taken)
			}
		})
	}
	operation := orderedAfter(0, "InProgress", cordonNoted)
	deleted(&operation)
	var taken string
	if got := guardOf(&operation, nil, &taken); got.Finalizer != "Remove" || len(got.Actions) != 0 {
		t.Errorf("an operation without a guest is held: %+v", got)
	}
}
