// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func operation(kind v1alpha2.OperationType, force bool) *v1alpha2.VirtualMachineOperation {
	out := &v1alpha2.VirtualMachineOperation{Spec: v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: "web"}}
	if force {
		out.Spec.Force = ptr.To(true)
	}
	return out
}

func machine(policy v1alpha2.RunPolicy, phase v1alpha2.MachinePhase) *v1alpha2.VirtualMachine {
	return &v1alpha2.VirtualMachine{
		ObjectMeta: metav1.ObjectMeta{Name: "web"},
		Spec:       v1alpha2.VirtualMachineSpec{RunPolicy: policy},
		Status:     v1alpha2.VirtualMachineStatus{Phase: phase, ObservedGeneration: 1},
	}
}

// The table of doc.go: every operation in every phase.
func TestPhases(t *testing.T) {
	all := []v1alpha2.MachinePhase{
		"Pending", "Starting", "Running", "Degraded", "Migrating", "Pause", "Stopping", "Stopped", "Terminating",
	}
	tests := []struct {
		kind  v1alpha2.OperationType
		force bool
		want  []v1alpha2.MachinePhase
	}{
		{"Start", false, []v1alpha2.MachinePhase{"Stopping", "Stopped"}},
		{"Stop", false, []v1alpha2.MachinePhase{"Pending", "Starting", "Running", "Degraded", "Migrating", "Pause"}},
		{"Stop", true, []v1alpha2.MachinePhase{"Pending", "Starting", "Running", "Degraded", "Migrating", "Pause", "Stopping"}},
		{"Restart", false, []v1alpha2.MachinePhase{"Starting", "Running", "Degraded", "Migrating", "Pause"}},
		{"Restart", true, []v1alpha2.MachinePhase{"Starting", "Running", "Degraded", "Migrating", "Pause", "Stopping"}},
		{"Migrate", false, []v1alpha2.MachinePhase{"Running", "Degraded", "Migrating"}},
		{"Evict", true, []v1alpha2.MachinePhase{"Running", "Degraded", "Migrating"}},
		{"Clone", false, nil},
	}
	for _, tc := range tests {
		var got []v1alpha2.MachinePhase
		for _, phase := range all {
			if Judge(operation(tc.kind, tc.force), machine("Manual", phase), nil).IsZero() {
				got = append(got, phase)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s, force %t: got %v, want %v", tc.kind, tc.force, got, tc.want)
		}
	}
}

func TestPolicies(t *testing.T) {
	tests := []struct {
		kind v1alpha2.OperationType
		want []v1alpha2.RunPolicy
	}{
		{"Start", []v1alpha2.RunPolicy{"Manual", "AlwaysOnUnlessStoppedManually", ""}},
		{"Stop", []v1alpha2.RunPolicy{"Manual", "AlwaysOnUnlessStoppedManually", ""}},
		{"Restart", []v1alpha2.RunPolicy{"AlwaysOn", "Manual", "AlwaysOnUnlessStoppedManually", ""}},
		{"Migrate", []v1alpha2.RunPolicy{"AlwaysOn", "Manual", "AlwaysOnUnlessStoppedManually", ""}},
		{"Evict", []v1alpha2.RunPolicy{"AlwaysOn", "Manual", "AlwaysOnUnlessStoppedManually", ""}},
	}
	for _, tc := range tests {
		var got []v1alpha2.RunPolicy
		for _, policy := range []v1alpha2.RunPolicy{"AlwaysOn", "AlwaysOff", "Manual", "AlwaysOnUnlessStoppedManually", ""} {
			if JudgePolicy(operation(tc.kind, false), machine(policy, "Running")).IsZero() {
				got = append(got, policy)
			}
		}
		if !slices.Equal(got, tc.want) {
			t.Errorf("%s: got %v, want %v", tc.kind, got, tc.want)
		}
	}
}

func TestMessages(t *testing.T) {
	tests := []struct {
		kind   v1alpha2.OperationType
		policy v1alpha2.RunPolicy
		phase  v1alpha2.MachinePhase
		want   Refusal
	}{
		{"Stop", "AlwaysOn", "Running", Refusal{"NotApplicableForVirtualMachineRunPolicy",
			"Stop is not possible while runPolicy of web is AlwaysOn: set spec.runPolicy of the machine to Manual or AlwaysOnUnlessStoppedManually, or to AlwaysOff to switch it off"}},
		{"Restart", "AlwaysOff", "Stopped", Refusal{"NotApplicableForVirtualMachineRunPolicy",
			"Restart is not possible while runPolicy of web is AlwaysOff: set spec.runPolicy of the machine to another value"}},
		{"Start", "AlwaysOn", "Stopped", Refusal{"NotApplicableForVirtualMachineRunPolicy",
			"Start is not possible while runPolicy of web is AlwaysOn: set spec.runPolicy of the machine to Manual or AlwaysOnUnlessStoppedManually"}},
		{"Start", "Manual", "Running", Refusal{"NotApplicableForVirtualMachinePhase",
			"Start needs a machine in phase Stopped or Stopping; web is Running"}},
		{"Migrate", "Manual", "Stopped", Refusal{"NotApplicableForVirtualMachinePhase",
			"Migrate needs a machine in phase Running, Degraded or Migrating; web is Stopped"}},
		{"Clone", "Manual", "Stopped", Refusal{"OperationTypeNotSupported",
			"operations of type Clone cannot be carried out by this release"}},
	}
	for _, tc := range tests {
		if got := Judge(operation(tc.kind, false), machine(tc.policy, tc.phase), nil); got != tc.want {
			t.Errorf("got %+v, want %+v", got, tc.want)
		}
	}
}

// Force is refused where the machine's policy leaves nothing open.
func TestForceAndTheLiveMigrationPolicy(t *testing.T) {
	tests := map[v1alpha2.LiveMigrationPolicy]struct{ yes, no string }{
		"":             {},
		"PreferSafe":   {},
		"PreferForced": {},
		"AlwaysSafe":   {yes: "force: true contradicts liveMigrationPolicy AlwaysSafe of web: leave force out, or set spec.liveMigrationPolicy of the machine to PreferSafe"},
		"AlwaysForced": {no: "force: false contradicts liveMigrationPolicy AlwaysForced of web: leave force out, or set spec.liveMigrationPolicy of the machine to PreferForced"},
	}
	for policy, want := range tests {
		moving, one := machine("Manual", "Running"), operation("Migrate", false)
		moving.Spec.LiveMigrationPolicy = policy
		for force, message := range map[*bool]string{nil: "", ptr.To(true): want.yes, ptr.To(false): want.no} {
			one.Spec.Force = force
			if got := Judge(one, moving, nil); got.Message != message || got.IsZero() != (message == "") {
				t.Errorf("%s: got %+v, want %q", policy, got, message)
			}
		}
		if got := Judge(operation("Stop", true), moving, nil); !got.IsZero() {
			t.Errorf("%s: the force of a Stop is another one: %+v", policy, got)
		}
	}
}

// A machine whose devices cannot be attached is not started. Everything else does not
// depend on them.
func TestDevices(t *testing.T) {
	tests := []struct {
		kind   v1alpha2.OperationType
		phase  v1alpha2.MachinePhase
		status metav1.ConditionStatus
		reason string
		want   string
	}{
		{"Start", "Stopped", "False", "BlockDevicesNotReady", "web cannot be started with its block devices: disk root is gone."},
		{"Start", "Stopped", "False", "WaitingForWaitForFirstConsumerBlockDevicesToBeReady", ""},
		{"Start", "Stopped", "True", "BlockDevicesReady", ""},
		{"Stop", "Running", "False", "BlockDevicesNotReady", ""},
		{"Restart", "Running", "False", "BlockDevicesNotReady", ""},
	}
	for _, tc := range tests {
		one := machine("Manual", tc.phase)
		one.Status.Conditions = []metav1.Condition{{Type: "BlockDevicesReady", Status: tc.status, Reason: tc.reason, Message: "disk root is gone."}}
		got := Judge(operation(tc.kind, false), one, nil)
		if got.Message != tc.want || (tc.want != "" && got.Reason != "BlockDevicesNotReady") {
			t.Errorf("%s with %s: got %+v, want %q", tc.kind, tc.reason, got, tc.want)
		}
	}
}

// In the middle of something the phase says nothing, nor before anybody has looked.
func TestPhaseIsNotAsked(t *testing.T) {
	starting := machine("Manual", "Stopped")
	if got := Judge(operation("Stop", false), starting, operation("Start", false)); !got.IsZero() {
		t.Errorf("a Stop in the place of a Start: %+v", got)
	}
	if got := Judge(operation("Stop", false), starting, operation("Migrate", false)); got.IsZero() {
		t.Error("a Stop of a stopped machine is possible after a migration")
	}
	fresh := machine("Manual", "Pending")
	fresh.Status.ObservedGeneration = 0
	if got := Judge(operation("Start", false), fresh, nil); !got.IsZero() || IsKnown(fresh) {
		t.Errorf("a new machine: %+v", got)
	}
	if got := Judge(operation("Stop", false), machine("AlwaysOn", "Running"), operation("Migrate", false)); got.IsZero() {
		t.Error("the policy is not asked")
	}
}

func TestSupersedes(t *testing.T) {
	kinds := []v1alpha2.OperationType{"Start", "Stop", "Restart", "Migrate", "Evict", "Clone"}
	tests := []struct {
		older       v1alpha2.OperationType
		plain, hard []v1alpha2.OperationType
	}{
		{"Start", []v1alpha2.OperationType{"Stop"}, []v1alpha2.OperationType{"Stop"}},
		{"Stop", nil, []v1alpha2.OperationType{"Stop", "Restart"}},
		{"Restart", nil, []v1alpha2.OperationType{"Stop", "Restart"}},
		{"Migrate", []v1alpha2.OperationType{"Stop", "Restart"}, []v1alpha2.OperationType{"Stop", "Restart"}},
		{"Evict", []v1alpha2.OperationType{"Stop", "Restart"}, []v1alpha2.OperationType{"Stop", "Restart"}},
		{"Clone", nil, nil},
	}
	for _, tc := range tests {
		for force, want := range map[bool][]v1alpha2.OperationType{false: tc.plain, true: tc.hard} {
			var got []v1alpha2.OperationType
			for _, kind := range kinds {
				if Supersedes(operation(kind, force), operation(tc.older, false)) {
					got = append(got, kind)
				}
			}
			if !slices.Equal(got, want) {
				t.Errorf("%s, by force %t: got %v, want %v", tc.older, force, got, want)
			}
		}
	}
}

func TestIsFinished(t *testing.T) {
	for phase, want := range map[v1alpha2.OperationPhase]bool{
		"": false, "Pending": false, "InProgress": false, "Terminating": false,
		"Completed": true, "Failed": true, "Superseded": true,
	} {
		one := operation("Stop", false)
		one.Status.Phase = phase
		if got := IsFinished(one); got != want {
			t.Errorf("%q: got %t", phase, got)
		}
	}
}

func TestIsOlder(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	named := func(name string, after time.Duration) *v1alpha2.VirtualMachineOperation {
		return &v1alpha2.VirtualMachineOperation{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(at.Add(after))}}
	}
	tests := []struct {
		a, b *v1alpha2.VirtualMachineOperation
		want bool
	}{
		{named("z", 0), named("a", time.Second), true},
		{named("a", time.Second), named("z", 0), false},
		{named("a", 0), named("b", 0), true},
		{named("b", 0), named("a", 0), false},
	}
	for _, tc := range tests {
		if got := IsOlder(tc.a, tc.b); got != tc.want {
			t.Errorf("%s before %s: %t", tc.a.Name, tc.b.Name, got)
		}
	}
	if !IsMigration("Evict") || !IsMigration("Migrate") || IsMigration("Stop") {
		t.Error("migrations are told wrong")
	}
}
