// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var (
	created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	now     = created.Add(10 * time.Second)
)

type change func(*Observed)

// observation is an operation that has just been made, on a machine that runs under
// Manual; tests change what they are about.
func observation(kind v1alpha2.OperationType, changes ...change) Observed {
	o := Observed{
		Operation: &v1alpha2.VirtualMachineOperation{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "op", UID: "uid-of-op", Generation: 1, CreationTimestamp: metav1.NewTime(created)},
			Spec:       v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: "web"},
		},
		Machine: &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"},
			Spec:       v1alpha2.VirtualMachineSpec{RunPolicy: "Manual"},
			Status: v1alpha2.VirtualMachineStatus{Phase: "Running", ObservedGeneration: 1, Conditions: []metav1.Condition{
				{Type: "Ready", Status: "True", Reason: "Ready", Message: "The guest runs."},
			}},
		},
		Engine: &virtv1.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", ResourceVersion: "7"}},
		Guest: &virtv1.VirtualMachineInstance{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "first"},
			Spec: virtv1.VirtualMachineInstanceSpec{Domain: virtv1.DomainSpec{
				Memory: &virtv1.Memory{Guest: ptr.To(resource.MustParse("1536Mi"))},
			}},
			Status: virtv1.VirtualMachineInstanceStatus{Phase: virtv1.Running, NodeName: "node-1", Conditions: []virtv1.VirtualMachineInstanceCondition{
				{Type: virtv1.VirtualMachineInstanceIsMigratable, Status: corev1.ConditionTrue},
			}},
		},
		Now: now,
	}
	for _, apply := range changes {
		apply(&o)
	}
	return o
}

// begun is an operation that was noted as in progress, but not acted on.
func begun(guest types.UID) change {
	return func(o *Observed) {
		o.Operation.Finalizers = []string{v1alpha2.FinalizerVMOPCleanup}
		o.Operation.Status.Phase, o.Operation.Status.GuestUID = "InProgress", guest
	}
}

// sent is an operation whose order was given some time ago.
func sent(guest types.UID, ago time.Duration) change {
	return func(o *Observed) {
		begun(guest)(o)
		o.Operation.Status.Conditions = []metav1.Condition{
			{Type: "SignalSent", Status: "True", Reason: "SignalSentSuccess", LastTransitionTime: metav1.NewTime(now.Add(-ago))},
		}
	}
}

func machineIs(phase v1alpha2.MachinePhase) change {
	return func(o *Observed) {
		o.Machine.Status.Phase = phase
		if phase != "Running" && phase != "Stopped" {
			o.Machine.Status.Conditions = []metav1.Condition{{Type: "Ready", Status: "False", Reason: "X", Message: "Something takes its time."}}
		}
	}
}

func policyIs(policy v1alpha2.RunPolicy) change {
	return func(o *Observed) { o.Machine.Spec.RunPolicy = policy }
}

func force(o *Observed) { o.Operation.Spec.Force = ptr.To(true) }

func noGuest(o *Observed) { o.Guest = nil }

func guestIs(uid types.UID, phase virtv1.VirtualMachineInstancePhase) change {
	return func(o *Observed) { o.Guest.UID, o.Guest.Status.Phase = uid, phase }
}

func guestGoes(o *Observed) { o.Guest.DeletionTimestamp = ptr.To(metav1.NewTime(now)) }

func asked(requests ...virtv1.VirtualMachineStateChangeRequest) change {
	return func(o *Observed) { o.Engine.Status.StateChangeRequests = requests }
}

func start() virtv1.VirtualMachineStateChangeRequest {
	return virtv1.VirtualMachineStateChangeRequest{Action: "Start"}
}

func stopFirst() virtv1.VirtualMachineStateChangeRequest {
	return virtv1.VirtualMachineStateChangeRequest{Action: "Stop", UID: ptr.To[types.UID]("first")}
}

func engineShows(status virtv1.VirtualMachinePrintableStatus) change {
	return func(o *Observed) { o.Engine.Status.PrintableStatus = status }
}

// another is an operation of the same machine, made before or after.
func another(name string, kind v1alpha2.OperationType, phase v1alpha2.OperationPhase, after time.Duration, forced bool) change {
	return func(o *Observed) {
		o.Others = append(o.Others, v1alpha2.VirtualMachineOperation{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, CreationTimestamp: metav1.NewTime(created.Add(after))},
			Spec:       v1alpha2.VirtualMachineOperationSpec{Type: kind, VirtualMachineName: "web", Force: ptr.To(forced)},
			Status:     v1alpha2.VirtualMachineOperationStatus{Phase: phase},
		})
	}
}

// migration is the engine's order of this operation, in a phase.
func migration(phase virtv1.VirtualMachineInstanceMigrationPhase) change {
	return func(o *Observed) {
		o.Migration = &virtv1.VirtualMachineInstanceMigration{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "vmop-op", UID: "uid-of-migration"},
			Spec:       virtv1.VirtualMachineInstanceMigrationSpec{VMIName: "web"},
			Status:     virtv1.VirtualMachineInstanceMigrationStatus{Phase: phase},
		}
	}
}

// moved changes what the guest tells about the migration.
func moved(apply func(*virtv1.VirtualMachineInstanceMigrationState)) change {
	return func(o *Observed) {
		if o.Guest.Status.MigrationState == nil {
			o.Guest.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{
				MigrationUID: "uid-of-migration", SourceNode: "node-1", TargetNode: "node-2",
				StartTimestamp:         ptr.To(metav1.NewTime(now.Add(-time.Minute))),
				MigrationConfiguration: &virtv1.MigrationConfiguration{CompletionTimeoutPerGiB: ptr.To[int64](150)},
			}
		}
		apply(o.Guest.Status.MigrationState)
	}
}

func moving(*virtv1.VirtualMachineInstanceMigrationState) {}

func deleted(o *Observed) {
	o.Operation.DeletionTimestamp = ptr.To(metav1.NewTime(now))
	o.Operation.Finalizers = []string{v1alpha2.FinalizerVMOPCleanup}
}

// condition is status, reason and message of a condition, in one line.
func condition(operation *v1alpha2.VirtualMachineOperation, conditionType string) string {
	found := meta.FindStatusCondition(operation.Status.Conditions, conditionType)
	if found == nil {
		return ""
	}
	return string(found.Status) + "/" + found.Reason + ": " + found.Message
}

// expectStatus compares phase, progress and the conditions Completed and Ready, which
// say the same.
func expectStatus(t *testing.T, decided decision, phase v1alpha2.OperationPhase, progress, completed string) {
	t.Helper()
	if decided.Status == nil {
		t.Fatal("no status")
	}
	status := decided.Status.Status
	if status.Phase != phase || status.Progress != progress {
		t.Errorf("phase %s at %q, want %s at %q", status.Phase, status.Progress, phase, progress)
	}
	for _, conditionType := range []string{"Completed", "Ready"} {
		if got := condition(decided.Status, conditionType); got != completed {
			t.Errorf("%s: %s\nwant %s", conditionType, got, completed)
		}
	}
	stalled := meta.IsStatusConditionTrue(status.Conditions, "Stalled")
	if want := phase == "Failed" || phase == "Superseded"; stalled != want {
		t.Errorf("Stalled: %t", stalled)
	}
}
