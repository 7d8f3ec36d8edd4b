// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

// stuckGuest is a guest that was made from a machine which asked for what there is
// not, before the machine was corrected and the engine was told.
func stuckGuest(t *testing.T, phase virtv1.VirtualMachineInstancePhase) func(*Observed) {
	return func(o *Observed) {
		t.Helper()
		o.Machine.Spec.NodeSelector = map[string]string{"zone": "nowhere"}
		o.Machine.Spec.PriorityClassName = "missing"
		rendered(t, "Starting")(o)
		guest(phase)(o)
		o.Guest.UID = "uid-of-guest"
		o.Guest.Status.NodeName, o.Guest.Status.ActivePods, o.Pods = "", nil, nil
		o.Guest.Status.VirtualMachineRevisionName = "revision-start-vm-uid-of-engine-1"
		o.Machine.Spec.NodeSelector, o.Machine.Spec.PriorityClassName = nil, ""
		rendered(t, "Starting")(o)
		o.Engine.Generation = 2
	}
}

func TestGuestThatHasNotBegunIsMadeAnew(t *testing.T) {
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    types.UID
	}{
		{"waits for a node", []func(*Observed){stuckGuest(t, "Scheduling")}, "uid-of-guest"},
		{"its pod is refused", []func(*Observed){stuckGuest(t, "Pending")}, "uid-of-guest"},
		{"was made this moment", []func(*Observed){stuckGuest(t, "")}, "uid-of-guest"},
		{"only its placement was wrong", []func(*Observed){stuckGuest(t, "Scheduling"), func(o *Observed) {
			o.Machine.Spec.PriorityClassName = "missing"
			rendered(t, "Starting")(o)
			o.Engine.Generation = 2
		}}, "uid-of-guest"},
		{"has a node", []func(*Observed){stuckGuest(t, "Scheduled")}, ""},
		{"runs", []func(*Observed){stuckGuest(t, "Running")}, ""},
		{"is going already", []func(*Observed){stuckGuest(t, "Pending"), func(o *Observed) {
			o.Guest.DeletionTimestamp = ptr.To(metav1.NewTime(now))
		}}, ""},
		{"is asked to go", []func(*Observed){stuckGuest(t, "Pending"), func(o *Observed) {
			o.Engine.Status.StateChangeRequests = []virtv1.VirtualMachineStateChangeRequest{{Action: virtv1.StopRequest}}
		}}, ""},
		{"was made from the corrected machine", []func(*Observed){stuckGuest(t, "Pending"), func(o *Observed) {
			o.Guest.Status.VirtualMachineRevisionName = "revision-start-vm-uid-of-engine-2"
		}}, ""},
		{"is to be off", []func(*Observed){stuckGuest(t, "Pending"), policy("AlwaysOff")}, ""},
		{"the engine does not know yet", []func(*Observed){stuckGuest(t, "Pending"), func(o *Observed) {
			o.Machine.Spec.PriorityClassName = "high"
		}}, ""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			decided := Decide(observation(test.changes...))
			if decided.Restart != test.want {
				t.Errorf("restarts %q, want %q", decided.Restart, test.want)
			}
			if len(decided.Events) > 0 && test.want != "" {
				last := decided.Events[len(decided.Events)-1]
				if last.Reason != "RestartedToApplyChanges" || !strings.HasPrefix(last.Message, "The guest has not begun to run and is made anew") {
					t.Errorf("tells %+v", last)
				}
			}
		})
	}
}

// A guest that waits for a node from the machine as it is has nothing to gain.
func TestUnchangedGuestWaitsOn(t *testing.T) {
	o := observation(rendered(t, "ErrorUnschedulable"), guest("Scheduling"))
	// The engine's object was written since, for example by a change of the run policy.
	o.Engine.Generation = 5
	o.Guest.Status.VirtualMachineRevisionName = "revision-start-vm-uid-of-engine-1"
	for _, at := range []time.Duration{0, time.Minute, time.Hour} {
		o.Now = now.Add(at)
		if got := Decide(o).Restart; got != "" {
			t.Errorf("after %s: restarts %q", at, got)
		}
	}
}
