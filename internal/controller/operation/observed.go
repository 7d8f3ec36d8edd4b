// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
)

// Observed is what the decision about an operation sees. A nil pointer means that
// there is no such object.
type Observed struct {
	Operation *v1alpha2.VirtualMachineOperation
	Machine   *v1alpha2.VirtualMachine
	// Others are the machine's other operations, finished ones included.
	Others []v1alpha2.VirtualMachineOperation
	// Engine and Guest are KubeVirt's objects of the machine's name.
	Engine *virtv1.VirtualMachine
	Guest  *virtv1.VirtualMachineInstance
	// Pods carry the guest, sorted by name.
	Pods []corev1.Pod
	// Migration is the engine's order to move the guest that belongs to this
	// operation.
	Migration *virtv1.VirtualMachineInstanceMigration
	// Moving is another order to move the guest that has not ended.
	Moving *virtv1.VirtualMachineInstanceMigration
	// Taken tells which other machine has a claim that the order to start would give to
	// this one.
	Taken map[string]string
	// Refusal is what the API server or a webhook said a moment ago to what the
	// operation asked for; it is empty unless that was refused.
	Refusal string
	Now     time.Time
}

func (o Observed) forced() bool { return ptr.Deref(o.Operation.Spec.Force, false) }

// guestActive tells that there is a guest that has not ended.
func (o Observed) guestActive() bool { return o.Guest != nil && !o.Guest.IsFinal() }

// signalSent tells that the order was handed to the engine.
func (o Observed) signalSent() bool {
	return meta.IsStatusConditionTrue(o.Operation.Status.Conditions, v1alpha2.ConditionSignalSent)
}

// sinceSignal is how long ago that was.
func (o Observed) sinceSignal() time.Duration {
	condition := meta.FindStatusCondition(o.Operation.Status.Conditions, v1alpha2.ConditionSignalSent)
	if condition == nil || condition.Status != metav1.ConditionTrue {
		return 0
	}
	return o.Now.Sub(condition.LastTransitionTime.Time)
}

// older is an active operation that has to be over before this one begins.
func (o Observed) older() *v1alpha2.VirtualMachineOperation {
	for i := range o.Others {
		if other := &o.Others[i]; !operations.IsFinished(other) && operations.IsOlder(other, o.Operation) {
			return other
		}
	}
	return nil
}

// successor is an operation that takes the place of this one.
func (o Observed) successor() *v1alpha2.VirtualMachineOperation {
	for i := range o.Others {
		other := &o.Others[i]
		if !operations.IsFinished(other) && other.DeletionTimestamp == nil &&
			operations.IsOlder(o.Operation, other) && operations.Supersedes(other, o.Operation) {
			return other
		}
	}
	return nil
}

// replaced is an operation whose place this one has taken.
func (o Observed) replaced() *v1alpha2.VirtualMachineOperation {
	for i := range o.Others {
		other := &o.Others[i]
		if other.Status.Phase == v1alpha2.OperationSuperseded &&
			operations.IsOlder(other, o.Operation) && operations.Supersedes(o.Operation, other) {
			return other
		}
	}
	return nil
}

// requests are what the engine was asked to do and has not done yet.
func (o Observed) requests() []virtv1.VirtualMachineStateChangeRequest {
	if o.Engine == nil {
		return nil
	}
	return o.Engine.Status.StateChangeRequests
}

// startRequested tells that the engine is going to start the guest.
func (o Observed) startRequested() bool {
	for _, request := range o.requests() {
		if request.Action == virtv1.StartRequest {
			return true
		}
	}
	return false
}

// machineMessage is what the machine says about its state.
func (o Observed) machineMessage() string {
	ready := meta.FindStatusCondition(o.Machine.Status.Conditions, v1alpha2.ConditionReady)
	if ready == nil {
		return ""
	}
	return ready.Message
}
