// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

// refusedByItsNode is a guest that its node mistakes for an earlier one.
func refusedByItsNode(o *Observed) {
	o.Guest.UID, o.Guest.Status.Phase = "second", virtv1.Scheduled
	o.Guest.Status.Conditions = []virtv1.VirtualMachineInstanceCondition{{
		Type: virtv1.VirtualMachineInstanceSynchronized, Status: corev1.ConditionFalse, Reason: "Synchronizing with the Domain failed.",
		Message: "unable to create virt-launcher client connection: can not add ghost record when entry already exists with differing UID",
	}}
}

func TestAGuestThatMeetsAGhostIsMadeAnew(t *testing.T) {
	said := func(message string) func(*Observed) {
		return func(o *Observed) { o.Guest.Status.Conditions[0].Message = message }
	}
	tests := map[string]struct {
		change func(*Observed)
		want   bool
	}{
		"it does":              {func(*Observed) {}, true},
		"it runs":              {func(o *Observed) { o.Guest.Status.Phase = virtv1.Running }, false},
		"it has no node yet":   {func(o *Observed) { o.Guest.Status.Phase = virtv1.Scheduling }, false},
		"it is going":          {func(o *Observed) { o.Guest.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }, false},
		"it has ended":         {func(o *Observed) { o.Guest.Status.Phase = virtv1.Failed }, false},
		"another mistake":      {said("server error. command SyncVMI failed"), false},
		"an older socket":      {said("can not add ghost record when entry already exists with differing socket file location"), false},
		"it was mended":        {func(o *Observed) { o.Guest.Status.Conditions[0].Status = corev1.ConditionTrue }, false},
		"nothing is said":      {func(o *Observed) { o.Guest.Status.Conditions = nil }, false},
		"it is being switched": {func(o *Observed) { o.Machine.Spec.RunPolicy = "AlwaysOff" }, false},
		"it was asked already": {func(o *Observed) {
			o.Engine.Status.StateChangeRequests = []virtv1.VirtualMachineStateChangeRequest{{Action: virtv1.StopRequest}}
		}, false},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation(running(t), refusedByItsNode, test.change)
			if got := meetsGhost(o); got != test.want {
				t.Errorf("got %t", got)
			}
			decided := Decide(o)
			if (decided.Restart == o.Guest.UID) != test.want {
				t.Errorf("restarts %q", decided.Restart)
			}
			if !test.want {
				return
			}
			last := decided.Events[len(decided.Events)-1]
			if last.Message != "The guest has not begun to run and is made anew, because its node has not forgotten the machine's guest before it." {
				t.Errorf("event %+v", last)
			}
		})
	}
	if meetsGhost(observation()) {
		t.Error("there is no guest")
	}
}
