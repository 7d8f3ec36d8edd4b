// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// patience is how long after its order the engine may show nothing of it before the
// operation has failed. It only matters when a guest ends as soon as it was started,
// too fast to be seen.
const patience = 30 * time.Second

// order is what the engine is asked to do about the guest. Requests replace
// those that it has, because an order takes the place of an older one.
type order struct {
	requests []virtv1.VirtualMachineStateChangeRequest
	// kill are pods that are not given the time to shut the guest down.
	kill []corev1.Pod
	// slowDown tells the engine whether the next migration may slow the guest down; nil
	// when it knows.
	slowDown *bool
	// sent and refused are the states that the order leads to.
	sent    state
	refused func(message string) state
}

// working describes what an operation on the guest's power does.
var working = map[v1alpha2.OperationType]struct {
	reason  v1alpha2.ConditionReason
	message string
}{
	v1alpha2.OperationStart:   {v1alpha2.ReasonStartInProgress, "The machine is being powered on."},
	v1alpha2.OperationStop:    {v1alpha2.ReasonStopInProgress, "The guest is being shut down."},
	v1alpha2.OperationRestart: {v1alpha2.ReasonRestartInProgress, "The guest is being shut down and started again."},
}

func inProgress(o Observed) state {
	work := working[o.Operation.Spec.Type]
	return state{phase: v1alpha2.OperationInProgress, reason: work.reason, message: work.message, progress: "0%"}
}

// beginPower notes the guest that is meant.
func beginPower(o Observed, decided decision) decision {
	now := inProgress(o)
	now.signal = verdict{metav1.ConditionFalse, now.reason, "The order is about to be given."}
	if o.Engine == nil {
		return decided.end(o, failed(v1alpha2.ReasonNotApplicableForPhase,
			fmt.Sprintf("%s was never started, because it waits for what it depends on: %s", o.Machine.Name, o.machineMessage())))
	}
	if refused := judgeDisks(o); refused != "" {
		return decided.end(o, failed(v1alpha2.ReasonBlockDevicesNotReady, refused))
	}
	if o.Operation.Spec.Type != v1alpha2.OperationStart && o.guestActive() {
		now.guest = o.Guest.UID
	}
	return decided.show(o, now)
}

// carryOn gives the order once and follows what comes of it.
func carryOn(o Observed, decided decision) decision {
	done, message := isDone(o)
	switch {
	case done:
		last := completed(message)
		last.signal = signalled()
		return decided.end(o, last)
	case !o.signalSent() && !isUnderway(o):
		if refused := judgeDisks(o); refused != "" {
			return decided.end(o, failed(v1alpha2.ReasonBlockDevicesNotReady, refused))
		}
		return giveOrder(o, decided)
	case isLost(o) && o.sinceSignal() >= patience:
		return decided.end(o, failed(v1alpha2.ReasonFailed, "the guest ended before it was seen running: "+o.machineMessage()))
	}
	now := inProgress(o)
	now.signal = signalled()
	if said := o.machineMessage(); said != "" && !isReady(o.Machine) {
		now.message += " The machine says: " + said
	}
	if isLost(o) {
		now.recheck = max(patience-o.sinceSignal(), time.Second)
	}
	decided = decided.show(o, now)
	if pods := podsToKill(o); len(pods) > 0 {
		decided.order = &order{requests: o.requests(), kill: pods, sent: now, refused: refusedOrder}
	}
	return decided
}

func signalled() verdict {
	return verdict{metav1.ConditionTrue, v1alpha2.ReasonSignalSentSuccess, "The order was given."}
}

// giveOrder hands the order over. The status that goes with it is the one before:
// if the order cannot be given for now, nothing has changed.
func giveOrder(o Observed, decided decision) decision {
	before := inProgress(o)
	sent := before
	sent.signal = signalled()
	decided = decided.show(o, before)
	decided.order = &order{requests: wantedRequests(o), sent: sent, refused: refusedOrder}
	return decided
}

func refusedOrder(message string) state {
	last := failed(v1alpha2.ReasonSignalSentError, "the engine refuses the order: "+message)
	last.signal = verdict{metav1.ConditionFalse, v1alpha2.ReasonSignalSentError, last.message}
	return last
}

// wantedRequests is the order in the engine's words. A guest that has ended but is
// still there has to be cleared away before another can start.
func wantedRequests(o Observed) []virtv1.VirtualMachineStateChangeRequest {
	start := virtv1.VirtualMachineStateChangeRequest{Action: virtv1.StartRequest}
	stop := func() virtv1.VirtualMachineStateChangeRequest {
		return virtv1.VirtualMachineStateChangeRequest{Action: virtv1.StopRequest, UID: ptr.To(o.Guest.UID)}
	}
	meant := o.Guest != nil && o.Guest.UID == o.Operation.Status.GuestUID
	switch o.Operation.Spec.Type {
	case v1alpha2.OperationStop:
		if meant {
			return []virtv1.VirtualMachineStateChangeRequest{stop()}
		}
		return nil
	case v1alpha2.OperationRestart:
		if meant {
			return []virtv1.VirtualMachineStateChangeRequest{stop(), start}
		}
		return []virtv1.VirtualMachineStateChangeRequest{start}
	default:
		if o.Guest != nil && o.Guest.IsFinal() && o.Guest.DeletionTimestamp == nil {
			return []virtv1.VirtualMachineStateChangeRequest{stop(), start}
		}
		return []virtv1.VirtualMachineStateChangeRequest{start}
	}
}

// isUnderway tells that the order was given although the status does not say so: the
// controller ended between the two.
func isUnderway(o Observed) bool {
	if len(o.requests()) > 0 && slices.EqualFunc(o.requests(), wantedRequests(o), sameRequest) {
		return true
	}
	switch o.Operation.Spec.Type {
	case v1alpha2.OperationStart:
		return o.guestActive() && o.Guest.DeletionTimestamp == nil
	case v1alpha2.OperationRestart:
		return o.guestActive() && o.Guest.UID != o.Operation.Status.GuestUID
	}
	return false
}

func sameRequest(a, b virtv1.VirtualMachineStateChangeRequest) bool {
	return a.Action == b.Action && ptr.Equal(a.UID, b.UID)
}

// isDone tells that the operation has had its effect.
func isDone(o Observed) (done bool, message string) {
	meant := o.Operation.Status.GuestUID
	switch o.Operation.Spec.Type {
	case v1alpha2.OperationStop:
		if o.Guest == nil && !o.startRequested() {
			return o.Machine.Status.Phase == v1alpha2.MachineStopped || isOffUnchanged(o), "The machine is off."
		}
		return o.guestActive() && meant != "" && o.Guest.UID != meant, "The guest has been shut down; the machine was started again since."
	case v1alpha2.OperationRestart:
		return isUp(o) && o.Guest.UID != meant, "The machine runs again."
	default:
		return isUp(o), "The machine runs."
	}
}

// isOffUnchanged tells that the guest was shut down while a change of the machine is
// refused: until somebody mends the change, the machine is shown as Pending for it, not as
// Stopped. The engine's word counts, which a guest that keeps failing does not get.
func isOffUnchanged(o Observed) bool {
	return o.signalSent() && o.Machine.Status.Phase == v1alpha2.MachinePending &&
		o.Engine != nil && o.Engine.Status.PrintableStatus == virtv1.VirtualMachineStatusStopped
}

// isUp tells that the guest runs, and that the machine says so.
func isUp(o Observed) bool {
	if o.Guest == nil || o.Guest.Status.Phase != virtv1.Running || o.Guest.DeletionTimestamp != nil {
		return false
	}
	switch o.Machine.Status.Phase {
	case v1alpha2.MachineRunning, v1alpha2.MachineDegraded, v1alpha2.MachineMigrating, v1alpha2.MachinePause:
		return true
	}
	return false
}

// isLost tells that a guest should be coming and none is.
func isLost(o Observed) bool {
	return o.signalSent() && o.Operation.Spec.Type != v1alpha2.OperationStop &&
		!o.guestActive() && !o.startRequested() && o.Machine.Status.Phase == v1alpha2.MachineStopped
}

func isReady(machine *v1alpha2.VirtualMachine) bool {
	for _, condition := range machine.Status.Conditions {
		if condition.Type == v1alpha2.ConditionReady {
			return condition.Status == metav1.ConditionTrue
		}
	}
	return false
}

// killGrace is the shortest time that the node gives a pod without forgetting about
// it: a pod that is deleted with none at all is gone from the API at once, while the
// guest may still be writing to its disks.
const killGrace = 1

// podsToKill are the pods of a guest that is switched off with force. They are left
// alone until the engine is deleting the guest: before that it would take the end of
// the pod for a crash and start the guest again.
func podsToKill(o Observed) []corev1.Pod {
	if !o.forced() || o.Guest == nil || o.Guest.UID != o.Operation.Status.GuestUID || o.Guest.DeletionTimestamp == nil {
		return nil
	}
	var pods []corev1.Pod
	for i := range o.Pods {
		pod := &o.Pods[i]
		ended := pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed
		hurried := pod.DeletionTimestamp != nil && ptr.Deref(pod.DeletionGracePeriodSeconds, 0) <= killGrace
		if !ended && !hurried && metav1.IsControlledBy(pod, o.Guest) {
			pods = append(pods, *pod)
		}
	}
	return pods
}
