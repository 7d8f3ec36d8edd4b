// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// How an operation begins, or does not.
func TestBegin(t *testing.T) {
	unknown := func(o *Observed) { o.Machine.Status = v1alpha2.VirtualMachineStatus{Phase: "Pending"} }
	tests := map[string]struct {
		kind      v1alpha2.OperationType
		changes   []change
		phase     v1alpha2.OperationPhase
		progress  string
		completed string
	}{
		"restart": {"Restart", nil, "InProgress", "0%", "False/RestartInProgress: The guest is being shut down and started again."},
		"stop":    {"Stop", nil, "InProgress", "0%", "False/StopInProgress: The guest is being shut down."},
		"start":   {"Start", []change{machineIs("Stopped"), noGuest}, "InProgress", "0%", "False/StartInProgress: The machine is being powered on."},
		"migrate": {"Migrate", nil, "InProgress", "0%", "False/MigrationPending: The engine was asked to move the guest."},
		"evict":   {"Evict", nil, "InProgress", "0%", "False/MigrationPending: The engine was asked to move the guest."},
		"an older one is active": {"Restart", []change{another("older", "Stop", "InProgress", -time.Second, false)},
			"Pending", "0%", "False/OtherOperationInProgress: Waiting for older, which is older."},
		"an older one is over": {"Restart", []change{another("older", "Stop", "Failed", -time.Second, false)},
			"InProgress", "0%", "False/RestartInProgress: The guest is being shut down and started again."},
		"a newer one waits": {"Restart", []change{another("newer", "Stop", "Pending", time.Second, false)},
			"InProgress", "0%", "False/RestartInProgress: The guest is being shut down and started again."},
		"nobody has looked at the machine": {"Start", []change{unknown},
			"Pending", "0%", "False/VirtualMachineNotReady: Waiting until the machine shows its phase."},
		"wrong phase": {"Start", nil,
			"Failed", "", "False/NotApplicableForVirtualMachinePhase: Start needs a machine in phase Stopped or Stopping; web is Running."},
		"wrong policy": {"Migrate", []change{policyIs("AlwaysOff")},
			"Failed", "", "False/NotApplicableForVirtualMachineRunPolicy: Migrate is not possible while runPolicy of web is AlwaysOff: set spec.runPolicy of the machine to another value."},
		"no machine": {"Stop", []change{func(o *Observed) { o.Machine = nil }},
			"Failed", "", "False/VirtualMachineNotFound: there is no VirtualMachine web in namespace team."},
		"the machine goes": {"Stop", []change{func(o *Observed) { o.Machine.DeletionTimestamp = ptr.To(metav1.Now()) }},
			"Failed", "", "False/NotApplicableForVirtualMachinePhase: web is being deleted."},
		"a clone": {"Clone", nil,
			"Failed", "", "False/OperationTypeNotSupported: operations of type Clone cannot be carried out by this release."},
		"never started": {"Stop", []change{machineIs("Pending"), noGuest, func(o *Observed) { o.Engine = nil }},
			"Failed", "", "False/NotApplicableForVirtualMachinePhase: web was never started, because it waits for what it depends on: Something takes its time."},
		"takes the place of a restart": {"Stop", []change{force, machineIs("Stopped"), noGuest, another("older", "Restart", "Superseded", -time.Second, false)},
			"InProgress", "0%", "False/StopInProgress: The guest is being shut down."},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			decided := decide(observation(tc.kind, tc.changes...))
			expectStatus(t, decided, tc.phase, tc.progress, tc.completed)
			if decided.order != nil {
				t.Error("acts before the status tells on what")
			}
			ended := tc.phase == "Failed"
			if held := decided.Finalizer == shared.FinalizerAdd; held == ended {
				t.Errorf("finalizer: %q", decided.Finalizer)
			}
			if len(decided.Events) != 1 || (decided.Events[0].Type == "Warning") != ended {
				t.Errorf("events %+v", decided.Events)
			}
		})
	}
}

// The guest that is meant is noted first; a Start means none.
func TestTheGuestIsNoted(t *testing.T) {
	for kind, want := range map[v1alpha2.OperationType]string{"Stop": "first", "Restart": "first"} {
		if got := decide(observation(kind)).Status.Status.GuestUID; string(got) != want {
			t.Errorf("%s: %q", kind, got)
		}
	}
	ended := observation("Start", machineIs("Stopped"), guestIs("first", virtv1.Succeeded))
	if got := decide(ended).Status.Status.GuestUID; got != "" {
		t.Errorf("Start: %q", got)
	}
}

func TestGivesWay(t *testing.T) {
	successor := another("newer", "Stop", "Pending", time.Second, true)
	restart := decide(observation("Restart", sent("first", time.Second), successor))
	expectStatus(t, restart, "Superseded", "", "False/Superseded: Stop newer has taken the place of this operation.")

	copying := decide(observation("Migrate", sent("", time.Second), migration(virtv1.MigrationRunning), successor))
	expectStatus(t, copying, "InProgress", "", "False/Aborted: Stop newer has taken the place of this operation. The migration is being stopped.")
	if len(copying.Delete) != 1 || copying.Delete[0].GetName() != "vmop-op" || copying.Delete[0].GetUID() != "uid-of-migration" {
		t.Errorf("deletes %v", copying.Delete)
	}
	stopped := decide(observation("Migrate", sent("", time.Second), migration(virtv1.MigrationFailed), successor))
	expectStatus(t, stopped, "Superseded", "", "False/Superseded: Stop newer has taken the place of this operation.")

	waiting := decide(observation("Migrate", another("newer", "Restart", "", time.Second, false)))
	expectStatus(t, waiting, "Superseded", "", "False/Superseded: Restart newer has taken the place of this operation.")

	weak := decide(observation("Restart", sent("first", time.Second), another("newer", "Stop", "Pending", time.Second, false)))
	expectStatus(t, weak, "InProgress", "0%", "False/RestartInProgress: The guest is being shut down and started again.")
}

// What the user changes in the meantime is respected.
func TestThePolicyChangesMeanwhile(t *testing.T) {
	decided := decide(observation("Restart", sent("first", time.Second), policyIs("AlwaysOff")))
	if decided.Status.Status.Phase != "Failed" || !strings.Contains(condition(decided.Status, "Completed"), "NotApplicableForVirtualMachineRunPolicy") {
		t.Errorf("%s", condition(decided.Status, "Completed"))
	}
	gone := decide(observation("Stop", sent("first", time.Second), func(o *Observed) { o.Machine = nil }))
	expectStatus(t, gone, "Failed", "", "False/VirtualMachineNotFound: there is no VirtualMachine web in namespace team.")
}

func TestCancel(t *testing.T) {
	free := func(decided decision) bool {
		return decided.Finalizer == shared.FinalizerRemove && decided.Status == nil
	}
	if !free(decide(observation("Stop", sent("first", time.Second), deleted))) {
		t.Error("an order that was given holds the operation")
	}
	if !free(decide(observation("Migrate", sent("", time.Second), migration(virtv1.MigrationFailed), deleted))) {
		t.Error("a migration that has ended holds the operation")
	}
	copying := decide(observation("Migrate", sent("", time.Second), migration(virtv1.MigrationRunning), deleted))
	expectStatus(t, copying, "Terminating", "", "False/Aborted: The migration is being stopped, because the operation is being deleted.")
	if copying.Finalizer != shared.FinalizerKeep || len(copying.Delete) != 1 || copying.Delete[0].GetName() != "vmop-op" {
		t.Errorf("finalizer %q, deletes %v", copying.Finalizer, copying.Delete)
	}
}

// A finished operation is let go at once and deleted a day after its end.
func TestFinished(t *testing.T) {
	endedAt := func(at time.Time) change {
		return func(o *Observed) {
			o.Operation.CreationTimestamp = metav1.NewTime(at.Add(-2 * time.Hour))
			o.Operation.Status.Phase = "Failed"
			o.Operation.Status.Conditions = []metav1.Condition{
				{Type: "SignalSent", Status: "True", LastTransitionTime: metav1.NewTime(at.Add(-time.Hour))},
				{Type: "Stalled", Status: "True", LastTransitionTime: metav1.NewTime(at)},
			}
		}
	}
	tests := map[string]struct {
		changes []change
		wait    time.Duration
		deletes bool
	}{
		"just now":           {[]change{endedAt(now)}, 24 * time.Hour, false},
		"an hour ago":        {[]change{endedAt(now.Add(-time.Hour))}, 23 * time.Hour, false},
		"a day ago":          {[]change{endedAt(now.Add(-24 * time.Hour))}, 0, true},
		"long ago, deleted":  {[]change{endedAt(now.Add(-48 * time.Hour)), deleted}, 0, false},
		"machine is gone":    {[]change{endedAt(now), func(o *Observed) { o.Machine = nil }}, 24 * time.Hour, false},
		"another comes":      {[]change{endedAt(now), another("newer", "Stop", "Pending", time.Second, true)}, 24 * time.Hour, false},
		"it would work now":  {[]change{endedAt(now), machineIs("Stopped")}, 24 * time.Hour, false},
		"status is of old":   {[]change{func(o *Observed) { o.Operation.Status.Phase = "Completed" }}, 24*time.Hour - 10*time.Second, false},
		"its order is there": {[]change{endedAt(now), migration(virtv1.MigrationRunning)}, 24 * time.Hour, false},
	}
	for name, tc := range tests {
		t.Run(name, func(t *testing.T) {
			o := observation("Restart", tc.changes...)
			decided := decide(o)
			if decided.Finalizer != shared.FinalizerRemove || decided.Status != nil || decided.order != nil || len(decided.Create) > 0 {
				t.Errorf("does more than nothing: %+v", decided)
			}
			if decided.RequeueAfter != tc.wait || (len(decided.Delete) == 1) != tc.deletes {
				t.Errorf("waits %s, deletes %v", decided.RequeueAfter, decided.Delete)
			}
			if len(decided.Delete) == 1 && decided.Delete[0].GetUID() != "uid-of-op" {
				t.Errorf("deletes %v", decided.Delete[0])
			}
		})
	}
}

// The same state is told once.
func TestSteadyState(t *testing.T) {
	for _, o := range []Observed{
		observation("Stop", sent("first", time.Second), machineIs("Stopping"), guestGoes, asked(stopFirst())),
		observation("Migrate", sent("", time.Second), migration(virtv1.MigrationRunning), moved(moving)),
		observation("Restart", another("older", "Stop", "InProgress", -time.Second, false)),
	} {
		o.Operation = decide(o).Status
		again := decide(o)
		if len(again.Events) > 0 || again.order != nil || len(again.Create) > 0 {
			t.Errorf("%s: %+v", o.Operation.Spec.Type, again)
		}
		if got, want := condition(again.Status, "Completed"), condition(o.Operation, "Completed"); got != want {
			t.Errorf("first %q, then %q", want, got)
		}
	}
}
