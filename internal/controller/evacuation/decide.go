// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"fmt"
	"hash/fnv"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
)

const (
	// annotationNode on an operation is the node that its guest has to leave.
	annotationNode = "virtualization.deckhouse.io/evacuated-node"
	// annotationCordoned on an operation tells that the node was cordoned when the
	// operation was ordered.
	annotationCordoned = "virtualization.deckhouse.io/evacuated-node-cordoned"

	// firstPause is how long to wait after the first failed move; each one after
	// that doubles it up to longestPause.
	firstPause   = 15 * time.Second
	longestPause = 10 * time.Minute
)

// Reasons of the events on machines.
const (
	eventOrdered   = "EvacuationOrdered"
	eventCancelled = "EvacuationCancelled"
	eventBlocked   = "EvacuationBlocked"
)

// Observed is what the decision about a machine sees. A nil pointer means that
// there is no such object.
type Observed struct {
	Machine *v1alpha2.VirtualMachine
	Guest   *virtv1.VirtualMachineInstance
	// Node is the one that the guest was told to leave.
	Node *corev1.Node
	// Operations are all of the machine's.
	Operations []v1alpha2.VirtualMachineOperation
	Now        time.Time
}

// mark is the node that the guest has to leave; empty when it may stay.
func mark(guest *virtv1.VirtualMachineInstance) string {
	if guest == nil || guest.IsFinal() || guest.DeletionTimestamp != nil {
		return ""
	}
	return guest.Status.EvacuationNodeName
}

// markedSince is when KubeVirt's controller noticed the mark; zero before that.
func markedSince(guest *virtv1.VirtualMachineInstance) metav1.Time {
	for _, condition := range guest.Status.Conditions {
		if condition.Type == virtv1.VirtualMachineInstanceEvictionRequested && condition.Status == corev1.ConditionTrue {
			return condition.LastTransitionTime
		}
	}
	return metav1.Time{}
}

func (o Observed) uncordoned() bool { return o.Node != nil && !o.Node.Spec.Unschedulable }

// active is the operation that the machine is busy with.
func (o Observed) active() *v1alpha2.VirtualMachineOperation {
	for i := range o.Operations {
		if !operations.IsFinished(&o.Operations[i]) {
			return &o.Operations[i]
		}
	}
	return nil
}

// attempts are the finished operations that were ordered for this mark: how many,
// and the last of them.
func (o Observed) attempts() (count int, last *v1alpha2.VirtualMachineOperation) {
	since := markedSince(o.Guest)
	for i := range o.Operations {
		operation := &o.Operations[i]
		if !isOurs(operation) || !operations.IsFinished(operation) || operation.CreationTimestamp.Before(&since) {
			continue
		}
		count++
		if last == nil || operations.IsOlder(last, operation) {
			last = operation
		}
	}
	return count, last
}

func isOurs(operation *v1alpha2.VirtualMachineOperation) bool {
	return operation.Annotations[annotationNode] != ""
}

func orderedUnderCordon(operation *v1alpha2.VirtualMachineOperation) bool {
	return operation.Annotations[annotationCordoned] == "true"
}

// plan is what is to be done about a machine. Takeback says that the mark is to be
// taken off the guest.
type plan struct {
	shared.Plan[*v1alpha2.VirtualMachine]
	takeback bool
}

func decide(o Observed) plan {
	node := mark(o.Guest)
	switch {
	case node == "" || o.Machine.DeletionTimestamp != nil:
		return plan{}
	case node != o.Guest.Status.NodeName:
		// KubeVirt refuses every further eviction of a guest with a mark, so that one
		// which came while the guest was leaving must not stay.
		return plan{takeback: true}
	}
	if active := o.active(); active != nil {
		return judgeActive(o, active)
	}
	count, last := o.attempts()
	if last != nil && orderedUnderCordon(last) && o.uncordoned() {
		return cancelled(o)
	}
	if reason := whyStuck(o.Machine); reason != "" {
		if o.uncordoned() {
			return plan{takeback: true, Plan: events(corev1.EventTypeWarning, eventBlocked, "The guest was asked to leave "+node+". "+reason)}
		}
		return plan{}
	}
	if !canBegin(o) {
		return plan{}
	}
	if last != nil {
		if wait := operations.FinishedAt(last).Add(pause(count)).Sub(o.Now); wait > 0 {
			return plan{Plan: shared.Plan[*v1alpha2.VirtualMachine]{RequeueAfter: wait}}
		}
	}
	return ordered(o, last)
}

// judgeActive leaves an operation alone unless it was ordered here and has lost its
// cause. What somebody else ordered is not ours to end.
func judgeActive(o Observed, active *v1alpha2.VirtualMachineOperation) plan {
	if !isOurs(active) || active.DeletionTimestamp != nil || !orderedUnderCordon(active) || !o.uncordoned() {
		return plan{}
	}
	out := cancelled(o)
	// The mark is taken back when the operation goes.
	out.takeback = false
	out.Delete = []client.Object{shared.Reference(active, &v1alpha2.VirtualMachineOperation{})}
	return out
}

func cancelled(o Observed) plan {
	return plan{takeback: true, Plan: events(corev1.EventTypeNormal, eventCancelled,
		"Node "+o.Node.Name+" takes guests again, so that the guest may stay.")}
}

// whyStuck is why the guest cannot be moved; empty when it can, or when that is not
// known yet.
func whyStuck(machine *v1alpha2.VirtualMachine) string {
	migratable := meta.FindStatusCondition(machine.Status.Conditions, v1alpha2.ConditionMigratable)
	if migratable == nil || migratable.Status == metav1.ConditionTrue {
		return ""
	}
	return migratable.Message
}

// canBegin tells that an operation would not be refused for what is over soon.
func canBegin(o Observed) bool {
	since := markedSince(o.Guest)
	return o.Node != nil && o.Machine.Status.Phase == v1alpha2.MachineRunning &&
		meta.IsStatusConditionTrue(o.Machine.Status.Conditions, v1alpha2.ConditionMigratable) && !since.IsZero()
}

func ordered(o Observed, last *v1alpha2.VirtualMachineOperation) plan {
	operation := newOperation(o, last)
	out := plan{Plan: events(corev1.EventTypeNormal, eventOrdered,
		fmt.Sprintf("The guest has to leave %s: operation %s moves it. Deleting the operation lets the guest stay.", o.Node.Name, operation.Name))}
	out.Create = []client.Object{operation}
	return out
}

// newOperation is born with the finalizer by which its deletion is noticed.
func newOperation(o Observed, last *v1alpha2.VirtualMachineOperation) *v1alpha2.VirtualMachineOperation {
	annotations := map[string]string{annotationNode: o.Node.Name}
	if !o.uncordoned() {
		annotations[annotationCordoned] = "true"
	}
	return &v1alpha2.VirtualMachineOperation{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       o.Machine.Namespace,
			Name:            operationName(o, last),
			Labels:          shared.ChildLabels(),
			Annotations:     annotations,
			Finalizers:      []string{v1alpha2.FinalizerVMOPEvacuation},
			OwnerReferences: []metav1.OwnerReference{shared.OwnerReference(v1alpha2.VirtualMachineKind, o.Machine.Name, o.Machine.UID)},
		},
		Spec: v1alpha2.VirtualMachineOperationSpec{Type: v1alpha2.OperationEvict, VirtualMachineName: o.Machine.Name},
	}
}

// operationName is the same however often an order is repeated.
func operationName(o Observed, last *v1alpha2.VirtualMachineOperation) string {
	hash := fnv.New32a()
	fmt.Fprintf(hash, "%s/%s/%d", o.Machine.UID, o.Guest.UID, markedSince(o.Guest).Unix())
	if last != nil {
		fmt.Fprintf(hash, "/%s", last.UID)
	}
	return fmt.Sprintf("evacuation-%s-%08x", o.Machine.Name, hash.Sum32())
}

// pause is how long to leave a guest alone after it could not be moved.
func pause(failures int) time.Duration {
	out := firstPause
	for i := 1; i < failures && out < longestPause; i++ {
		out *= 2
	}
	return min(out, longestPause)
}

func events(kind, reason, message string) shared.Plan[*v1alpha2.VirtualMachine] {
	return shared.Plan[*v1alpha2.VirtualMachine]{Events: []shared.Event{{Type: kind, Reason: reason, Message: message}}}
}

// Departing is what the guard of an operation sees.
type Departing struct {
	Operation *v1alpha2.VirtualMachineOperation
	Guest     *virtv1.VirtualMachineInstance
}

// guard holds an operation that was ordered here until it has ended, or, when it is
// deleted before, until the guest may stay.
func guard(d Departing, takeback func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error) shared.Plan[*v1alpha2.VirtualMachineOperation] {
	finished := operations.IsFinished(d.Operation)
	if !finished && d.Operation.DeletionTimestamp == nil {
		return shared.Plan[*v1alpha2.VirtualMachineOperation]{}
	}
	out := shared.Plan[*v1alpha2.VirtualMachineOperation]{
		Finalizer: shared.FinalizerRemove, FinalizerName: v1alpha2.FinalizerVMOPEvacuation,
	}
	if !finished && mark(d.Guest) == d.Operation.Annotations[annotationNode] {
		guest := d.Guest.DeepCopy()
		out.Actions = []shared.Action{{Name: "letting the guest stay", Run: func(ctx context.Context) error { return takeback(ctx, guest) }}}
	}
	return out
}
