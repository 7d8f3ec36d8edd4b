// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"math"
	"time"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// power is the state of the machine's guest: the phase for people, and what the
// condition Running says.
type power struct {
	phase v1alpha2.MachinePhase
	// running is True only while the guest executes instructions.
	running bool
	reason  v1alpha2.ConditionReason
	message string
	// recheck is when to look again, because the state may be a passing one that
	// nothing will announce the end of.
	recheck time.Duration
}

// judgePower derives the state from what KubeVirt shows and from what the machine
// is about to be told. Passes says that the machine is rendered in this very
// reconcile.
func judgePower(o Observed, passes bool) power {
	switch {
	case o.Refusal != "" && !o.GuestActive():
		return off(v1alpha2.MachinePending, v1alpha2.ReasonInternalVirtualMachineError,
			"What the machine needs is refused: %s", o.Refusal)
	case o.isForeign():
		return off(v1alpha2.MachinePending, v1alpha2.ReasonInternalVirtualMachineError,
			"KubeVirt VirtualMachine %s/%s exists and does not belong to this machine: wait until it is gone or delete it.",
			o.Machine.Namespace, o.Machine.Name)
	case o.Engine == nil && !passes:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonNotRunning, "The machine waits for what it depends on.")
	}
	if o.GuestActive() && o.Machine.Spec.RunPolicy == v1alpha2.RunPolicyAlwaysOff {
		return stopping(o)
	}
	return fromEngine(o, passes)
}

func stopping(o Observed) power {
	because := "."
	if o.Machine.Spec.RunPolicy == v1alpha2.RunPolicyAlwaysOff {
		because = ", because runPolicy is AlwaysOff."
	}
	return off(v1alpha2.MachineStopping, v1alpha2.ReasonPodTerminating, "The guest is shutting down%s", because)
}

func off(phase v1alpha2.MachinePhase, reason v1alpha2.ConditionReason, format string, args ...any) power {
	return power{phase: phase, reason: reason, message: fmt.Sprintf(format, args...)}
}

// fromEngine follows KubeVirt's own summary of its objects.
func fromEngine(o Observed, passes bool) power {
	switch printableStatus(o) {
	case virtv1.VirtualMachineStatusRunning:
		return power{phase: v1alpha2.MachineRunning, running: true, reason: v1alpha2.ReasonRunning, message: "The guest runs."}
	case virtv1.VirtualMachineStatusMigrating, virtv1.VirtualMachineStatusWaitingForReceiver:
		return power{phase: v1alpha2.MachineMigrating, running: true, reason: v1alpha2.ReasonRunning, message: "The guest runs and is being moved to another node."}
	case virtv1.VirtualMachineStatusPaused:
		return off(v1alpha2.MachinePause, v1alpha2.ReasonGuestNotRunning, "The guest is frozen in memory.")
	case virtv1.VirtualMachineStatusStopping, virtv1.VirtualMachineStatusTerminating:
		return stopping(o)
	case virtv1.VirtualMachineStatusStarting, virtv1.VirtualMachineStatusProvisioning:
		return starting(o)
	case virtv1.VirtualMachineStatusStopped:
		return stopped(o, passes)
	default:
		return stuck(o)
	}
}

// printableStatus is empty in an engine object that KubeVirt has not seen yet,
// which means the same as Stopped.
func printableStatus(o Observed) virtv1.VirtualMachinePrintableStatus {
	if o.Engine == nil || o.Engine.Status.PrintableStatus == "" {
		return virtv1.VirtualMachineStatusStopped
	}
	return o.Engine.Status.PrintableStatus
}

func starting(o Observed) power {
	if failure := engineFailure(o); failure != "" {
		return off(v1alpha2.MachinePending, v1alpha2.ReasonInternalVirtualMachineError, "The guest cannot be started: %s", failure)
	}
	return off(v1alpha2.MachineStarting, v1alpha2.ReasonNotRunning, startingMessage)
}

const startingMessage = "The guest is being started."

func stopped(o Observed, passes bool) power {
	switch {
	case o.GuestActive():
		// KubeVirt shows Stopped for a moment between making the guest and seeing it.
		return starting(o)
	case !startExpected(o) && sinceStarting(o) < patience:
		// The same moment, seen before the guest.
		state := starting(o)
		state.recheck = patience - sinceStarting(o)
		return state
	case !startExpected(o):
		return off(v1alpha2.MachineStopped, v1alpha2.ReasonNotRunning, "%s", whyStopped(o))
	case !passes:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonNotRunning, "The machine waits for what it depends on.")
	default:
		return starting(o)
	}
}

// sinceStarting is how long the machine has been shown as Starting; for ever if it
// is not.
func sinceStarting(o Observed) time.Duration {
	stats := o.Machine.Status.Stats
	if o.Machine.Status.Phase != v1alpha2.MachineStarting || o.Machine.Spec.RunPolicy == v1alpha2.RunPolicyAlwaysOff ||
		stats == nil || len(stats.PhasesTransitions) == 0 {
		return math.MaxInt64
	}
	last := stats.PhasesTransitions[len(stats.PhasesTransitions)-1].Timestamp
	if last == nil {
		return math.MaxInt64
	}
	return o.Now.Sub(last.Time)
}

// startExpected tells whether KubeVirt will start a stopped guest by itself, given
// the policy that the machine has now.
func startExpected(o Observed) bool {
	if writers.HasStartRequest(o.Engine) {
		return o.Machine.Spec.RunPolicy != v1alpha2.RunPolicyAlwaysOff
	}
	switch kubevirt.RunStrategy(o.Machine.Spec.RunPolicy) {
	case virtv1.RunStrategyAlways:
		return true
	case virtv1.RunStrategyRerunOnFailure:
		// KubeVirt starts such a machine once when it comes to this strategy, and
		// again when the guest has failed.
		return o.Engine == nil || o.Engine.Status.RunStrategy != virtv1.RunStrategyRerunOnFailure ||
			(o.Guest != nil && o.Guest.Status.Phase == virtv1.Failed)
	default:
		return false
	}
}

func whyStopped(o Observed) string {
	switch o.Machine.Spec.RunPolicy {
	case v1alpha2.RunPolicyAlwaysOff:
		return "The machine is off, because runPolicy is AlwaysOff."
	case v1alpha2.RunPolicyManual:
		return "The machine is off until somebody starts it, because runPolicy is Manual."
	default:
		return "The machine was shut down from inside or stopped, and stays off until somebody starts it."
	}
}

// stuck is for the states from which KubeVirt does not come without help, or only
// after a while.
func stuck(o Observed) power {
	status := o.Engine.Status.PrintableStatus
	switch status {
	case virtv1.VirtualMachineStatusUnschedulable:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonPodNotStarted, "No node can take the machine: %s",
			engineMessage(o, virtv1.VirtualMachineConditionType(corev1.PodScheduled), "the scheduler gives no reason"))
	case virtv1.VirtualMachineStatusErrImagePull, virtv1.VirtualMachineStatusImagePullBackOff:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonPodNotStarted, "A node cannot fetch an image of the machine: %s",
			engineMessage(o, synchronized, "the node gives no reason"))
	case virtv1.VirtualMachineStatusPvcNotFound, virtv1.VirtualMachineStatusDataVolumeError:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonPodNotStarted, "A volume of the machine cannot be used: %s",
			engineMessage(o, synchronized, "the engine gives no reason"))
	case virtv1.VirtualMachineStatusWaitingForVolumeBinding:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonPodNotStarted, "The storage has not made a volume of the machine yet.")
	case virtv1.VirtualMachineStatusCrashLoopBackOff:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonInternalVirtualMachineError, "%s", crashMessage(o.Engine))
	default:
		return off(v1alpha2.MachinePending, v1alpha2.ReasonInternalVirtualMachineError, "The engine shows the machine as %s: %s",
			status, engineMessage(o, synchronized, "it gives no reason"))
	}
}

// synchronized is the guest's condition that KubeVirt copies to its machine.
const synchronized = virtv1.VirtualMachineConditionType(virtv1.VirtualMachineInstanceSynchronized)

// engineFailure is why KubeVirt cannot make the guest or its pod; empty when
// nothing speaks against it.
func engineFailure(o Observed) string {
	if o.Engine == nil {
		return ""
	}
	for _, condition := range o.Engine.Status.Conditions {
		switch {
		case condition.Type == virtv1.VirtualMachineFailure && condition.Status == corev1.ConditionTrue:
			return condition.Message
		case condition.Type == synchronized && condition.Status == corev1.ConditionFalse:
			return condition.Message
		case condition.Type == virtv1.VirtualMachineConditionType(corev1.PodScheduled) && condition.Status == corev1.ConditionFalse:
			return condition.Message
		}
	}
	return ""
}

func engineMessage(o Observed, conditionType virtv1.VirtualMachineConditionType, otherwise string) string {
	for _, condition := range o.Engine.Status.Conditions {
		if condition.Type == conditionType && condition.Message != "" {
			return condition.Message
		}
	}
	return otherwise
}

func crashMessage(engine *virtv1.VirtualMachine) string {
	failure := engine.Status.StartFailure
	if failure == nil {
		return "The guest ends as soon as it is started; the engine tries again."
	}
	message := fmt.Sprintf("The guest ended %d times as soon as it was started; the engine tries again", failure.ConsecutiveFailCount)
	if failure.RetryAfterTimestamp != nil {
		message += " at " + failure.RetryAfterTimestamp.UTC().Format(time.RFC3339)
	}
	return message + "."
}
