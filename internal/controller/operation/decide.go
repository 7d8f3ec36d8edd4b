// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
)

// retention is how long a finished operation can be looked at.
const retention = 24 * time.Hour

// state is what has become of an operation; the conditions and the phase follow from
// it.
type state struct {
	phase    v1alpha2.OperationPhase
	reason   v1alpha2.ConditionReason
	message  string
	progress string
	// signal is what the condition SignalSent says; with no reason it stays as it is.
	signal verdict
	// guest is the one that a Stop or a Restart ends.
	guest types.UID
	// recheck is the time to a deadline that no watch announces.
	recheck time.Duration
}

type verdict struct {
	status  metav1.ConditionStatus
	reason  v1alpha2.ConditionReason
	message string
}

// decision is a plan together with an order to the engine that is not an object.
type decision struct {
	shared.Plan[*v1alpha2.VirtualMachineOperation]
	// order is carried out before the status is written; outcome turns what came of
	// it into the status.
	order *order
}

func decide(o Observed) decision {
	switch {
	case operations.IsFinished(o.Operation):
		return decideFinished(o)
	case o.Operation.DeletionTimestamp != nil:
		return decideCancelled(o)
	}
	var decided decision
	decided.Finalizer, decided.FinalizerName = shared.FinalizerAdd, v1alpha2.FinalizerVMOPCleanup
	if successor := o.successor(); successor != nil {
		return supersede(o, decided, successor)
	}
	if refused := preconditions(o); !refused.IsZero() {
		return decided.end(o, failed(refused.Reason, refused.Message))
	}
	if o.Operation.Status.Phase != v1alpha2.OperationInProgress {
		return begin(o, decided)
	}
	if operations.IsMigration(o.Operation.Spec.Type) {
		return follow(o, decided)
	}
	return carryOn(o, decided)
}

// preconditions are those that an operation needs from its first to its last moment.
func preconditions(o Observed) operations.Refusal {
	switch {
	case o.Machine == nil:
		return operations.Refusal{Reason: v1alpha2.ReasonVirtualMachineNotFound, Message: fmt.Sprintf(
			"there is no VirtualMachine %s in namespace %s", o.Operation.Spec.VirtualMachineName, o.Operation.Namespace)}
	case o.Machine.DeletionTimestamp != nil:
		return operations.Refusal{Reason: v1alpha2.ReasonNotApplicableForPhase, Message: fmt.Sprintf("%s is being deleted", o.Machine.Name)}
	case o.Operation.Status.Phase != v1alpha2.OperationInProgress:
		return operations.Refusal{}
	}
	// The phase changes in the course of the operation, the policy should not.
	return operations.JudgePolicy(o.Operation, o.Machine)
}

// begin waits for the operation's turn, judges it, and notes what it is going to
// act on before it does: after a crash the same guest has to be meant.
func begin(o Observed, decided decision) decision {
	if older := o.older(); older != nil {
		return decided.show(o, pending(v1alpha2.ReasonOtherOperationInProgress, fmt.Sprintf("Waiting for %s, which is older.", older.Name)))
	}
	if !operations.IsKnown(o.Machine) {
		return decided.show(o, pending(v1alpha2.ReasonVirtualMachineNotReady, "Waiting until the machine shows its phase."))
	}
	if refused := operations.Judge(o.Operation, o.Machine, o.replaced()); !refused.IsZero() {
		return decided.end(o, failed(refused.Reason, refused.Message))
	}
	if operations.IsMigration(o.Operation.Spec.Type) {
		return beginMigration(o, decided)
	}
	return beginPower(o, decided)
}

// supersede gives way to another operation.
func supersede(o Observed, decided decision, successor *v1alpha2.VirtualMachineOperation) decision {
	message := fmt.Sprintf("%s %s has taken the place of this operation.", successor.Spec.Type, successor.Name)
	if o.Migration != nil && !o.Migration.IsFinal() {
		decided.Delete = []client.Object{shared.Reference(o.Migration, emptyMigration())}
		return decided.show(o, state{
			phase: v1alpha2.OperationInProgress, reason: v1alpha2.ReasonAborted, message: message + " The migration is being stopped."})
	}
	return decided.end(o, state{phase: v1alpha2.OperationSuperseded, reason: v1alpha2.ReasonSuperseded, message: message})
}

// decideCancelled takes back what can be taken back: a migration. An order to start
// or to stop that was given stays given.
func decideCancelled(o Observed) decision {
	var decided decision
	if o.Migration == nil || o.Migration.IsFinal() {
		decided.Finalizer, decided.FinalizerName = shared.FinalizerRemove, v1alpha2.FinalizerVMOPCleanup
		return decided
	}
	decided.Delete = []client.Object{shared.Reference(o.Migration, emptyMigration())}
	return decided.show(o, state{
		phase: v1alpha2.OperationTerminating, reason: v1alpha2.ReasonAborted, message: "The migration is being stopped, because the operation is being deleted."})
}

// decideFinished lets the operation be deleted by anybody, and deletes it when its
// time has come.
func decideFinished(o Observed) decision {
	var decided decision
	decided.Finalizer, decided.FinalizerName = shared.FinalizerRemove, v1alpha2.FinalizerVMOPCleanup
	if o.Operation.DeletionTimestamp != nil {
		return decided
	}
	left := operations.FinishedAt(o.Operation).Add(retention).Sub(o.Now)
	if left > 0 {
		decided.RequeueAfter = left
		return decided
	}
	decided.Delete = []client.Object{shared.Reference(o.Operation, &v1alpha2.VirtualMachineOperation{})}
	return decided
}

func pending(reason v1alpha2.ConditionReason, message string) state {
	return state{phase: v1alpha2.OperationPending, reason: reason, message: message, progress: "0%"}
}

func failed(reason v1alpha2.ConditionReason, message string) state {
	return state{phase: v1alpha2.OperationFailed, reason: reason, message: sentence(message)}
}

func completed(message string) state {
	return state{phase: v1alpha2.OperationCompleted, reason: v1alpha2.ReasonCompleted, message: message, progress: "100%"}
}

// sentence makes a message of a refusal: others' texts come without a full stop.
func sentence(text string) string {
	if text == "" {
		return "No reason was given."
	}
	last := text[len(text)-1]
	if last == '.' || last == '!' || last == '?' {
		return text
	}
	return text + "."
}

// end is show for the last state: the finalizer, which is of no use any more, is
// not added for it.
func (d decision) end(o Observed, s state) decision {
	d.Finalizer, d.FinalizerName = shared.FinalizerKeep, ""
	return d.show(o, s)
}

// show puts the state into the plan.
func (d decision) show(o Observed, s state) decision {
	d.Status = withState(o.Operation, s, o.Now)
	d.RequeueAfter = s.recheck
	d.Events = events(o.Operation, d.Status)
	return d
}

// withState is a copy of the operation that shows the state.
func withState(operation *v1alpha2.VirtualMachineOperation, s state, now time.Time) *v1alpha2.VirtualMachineOperation {
	want := operation.DeepCopy()
	conditions := shared.NewConditions(want.Status.Conditions, want.Generation, now)
	want.Status.ObservedGeneration = want.Generation
	want.Status.Phase = s.phase
	if s.progress != "" {
		want.Status.Progress = s.progress
	}
	if s.guest != "" {
		want.Status.GuestUID = s.guest
	}
	if s.signal.reason != "" {
		conditions.Set(v1alpha2.ConditionSignalSent, s.signal.status, s.signal.reason, s.signal.message)
	}
	switch s.phase {
	case v1alpha2.OperationCompleted:
		conditions.True(v1alpha2.ConditionCompleted, s.reason, s.message)
		conditions.True(v1alpha2.ConditionReady, s.reason, s.message)
	case v1alpha2.OperationFailed, v1alpha2.OperationSuperseded:
		conditions.False(v1alpha2.ConditionCompleted, s.reason, s.message)
		conditions.False(v1alpha2.ConditionReady, s.reason, s.message)
		conditions.True(v1alpha2.ConditionStalled, s.reason, s.message)
	default:
		conditions.False(v1alpha2.ConditionCompleted, s.reason, s.message)
		conditions.False(v1alpha2.ConditionReady, s.reason, s.message)
	}
	want.Status.Conditions = conditions.List()
	return want
}

// events tells about each change of phase with its cause, and about each new reason
// for which the operation has not ended.
func events(before, after *v1alpha2.VirtualMachineOperation) []shared.Event {
	was := meta.FindStatusCondition(before.Status.Conditions, v1alpha2.ConditionCompleted)
	is := meta.FindStatusCondition(after.Status.Conditions, v1alpha2.ConditionCompleted)
	if before.Status.Phase == after.Status.Phase && was != nil && was.Reason == is.Reason {
		return nil
	}
	event := shared.Event{Type: corev1.EventTypeNormal, Reason: is.Reason, Message: is.Message}
	if after.Status.Phase == v1alpha2.OperationFailed {
		event.Type = corev1.EventTypeWarning
	}
	return []shared.Event{event}
}
