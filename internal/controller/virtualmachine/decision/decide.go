// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// patience is how long a machine's status may be held back for something that is
// over in a fraction of a second. Times of creation are whole seconds, hence more than
// one.
const patience = 2 * time.Second

// startPatience is how long the start of a new machine's guest may take before the
// status tells of it. Most guests run by then, and one write tells all of it.
const startPatience = 10 * time.Second

// claimPatience is how long a new machine may wait for its own address claim as long as
// nobody has said a word about that. It is in a queue of this very program then: of
// thousands of machines that are made at once, each would tell that it waits, its disk
// would tell that it is named, and all the others would wait for that as well.
const claimPatience = time.Minute

// Outcome is a plan together with what is to be done to the engine's object
// beside applying it.
type Outcome struct {
	shared.Plan[*v1alpha2.VirtualMachine]
	// Power is the run strategy to set on an engine object that cannot be rendered
	// anew; empty when nothing is to be set.
	Power virtv1.VirtualMachineRunStrategy
	// Restart names the guest that is to be restarted for its pending changes; empty
	// when none is.
	Restart types.UID
	// Comeback tells that the guest's end, which KubeVirt would take for a shutdown,
	// is to be followed by a start.
	Comeback bool
}

// Decide is pure: equal observations give equal outcomes.
func Decide(o Observed) Outcome {
	if o.Machine.DeletionTimestamp != nil {
		return decideDeletion(o)
	}
	deps := judge(o)
	decided := Outcome{Plan: shared.Plan[*v1alpha2.VirtualMachine]{
		Finalizer: shared.FinalizerAdd, FinalizerName: v1alpha2.FinalizerVMCleanup,
	}}
	var nextLeft time.Duration
	if o.Refusal == "" {
		// What was refused may be just this; then the status has to tell it first.
		decided.Delete, nextLeft = leftPods(o)
		if o.wantsOwnClaim() && o.Claim == nil {
			decided.Create = append(decided.Create, newClaim(o))
		}
	}
	passes := deps.passes() && o.Refusal == "" && !o.isForeign()
	if passes {
		child, err := newEngine(o, deps)
		switch {
		case err != nil:
			o.Refusal, passes = err.Error(), false
		case o.Engine == nil || o.Engine.DeletionTimestamp == nil:
			// One that somebody deleted is made again when it is gone.
			decided.Apply = append(decided.Apply, child)
			decided.Restart = guestToRestart(o, deps)
		}
	} else {
		decided.Power = strategyToSet(o)
	}
	decided.Comeback = decided.Restart == "" && comesBack(o)
	state := judgePower(o, passes)
	if wait := timeToHold(o, deps, state); wait > 0 {
		decided.RequeueAfter = wait
		return decided
	}
	decided.Status = wantedStatus(o, deps, state)
	decided.RequeueAfter = soonest(state.recheck, nextLeft)
	decided.Events = events(o.Machine, decided.Status)
	if decided.Restart != "" {
		decided.Events = append(decided.Events, shared.Event{Type: corev1.EventTypeNormal, Reason: eventRestart,
			Message: restartMessage(o)})
	}
	return decided
}

// soonest is the shorter of two times to wait, of which zero is none.
func soonest(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return a + b
	}
	return min(a, b)
}

// timeToHold is how long to wait before the first status is written: while nothing
// is missing but what is on its way, that status would soon be another one.
func timeToHold(o Observed, deps dependencies, state power) time.Duration {
	if !shared.IsNewMachine(o.Machine) || o.Refusal != "" {
		return 0
	}
	// The controller may have come up long after the machine.
	since, bound := o.Machine.CreationTimestamp.Time, claimPatience
	if o.Claim != nil && since.Before(o.Claim.CreationTimestamp.Time) {
		since = o.Claim.CreationTimestamp.Time
	}
	switch {
	case deps.waitsForOwnClaim:
	case state.phase == v1alpha2.MachineStarting && deps.firstProblem() == nil:
		bound = startPatience
		if o.Engine != nil {
			since = o.Engine.CreationTimestamp.Time
		}
	default:
		return 0
	}
	return max(0, since.Add(bound).Sub(o.Now))
}

// strategyToSet lets the run policy through to a machine that cannot be rendered
// as a whole, because something that it depends on went away: switching off must
// always work, and a running guest must follow its policy.
func strategyToSet(o Observed) virtv1.VirtualMachineRunStrategy {
	if o.Engine == nil || o.isForeign() || o.Engine.DeletionTimestamp != nil {
		return ""
	}
	want := o.runStrategy()
	have := o.Engine.Spec.RunStrategy
	if (have != nil && *have == want) || (want != virtv1.RunStrategyHalted && !o.GuestActive()) {
		return ""
	}
	return want
}

// decideDeletion takes the engine's object away and lets the machine go when
// nothing of the guest is left.
func decideDeletion(o Observed) Outcome {
	var decided Outcome
	remains := remainsOf(o)
	if len(remains) == 0 {
		decided.Finalizer, decided.FinalizerName = shared.FinalizerRemove, v1alpha2.FinalizerVMCleanup
		return decided
	}
	message := "Waiting until these are gone: " + strings.Join(remains, ", ") + "."
	switch {
	case o.Refusal != "":
		message = "The engine's VirtualMachine cannot be deleted: " + o.Refusal
	case o.Engine != nil && !o.isForeign():
		decided.Delete = append(decided.Delete, o.Engine.DeepCopy())
	}
	want := o.Machine.DeepCopy()
	conditions := shared.NewConditions(want.Status.Conditions, want.Generation, o.Now)
	before := shownPhase(want)
	want.Status.ObservedGeneration = want.Generation
	want.Status.Phase = v1alpha2.MachineTerminating
	conditions.True(v1alpha2.ConditionTerminating, v1alpha2.ReasonCleanupPending, message)
	conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonTerminating, message)
	conditions.False(v1alpha2.ConditionRunning, v1alpha2.ReasonPodTerminating, "The machine is being deleted.")
	setStats(&want.Status, before, o)
	want.Status.Conditions = conditions.List()
	decided.Status = want
	decided.Events = events(o.Machine, want)
	return decided
}

// remainsOf names what is left of the guest. A foreign namesake is none of the
// machine's business.
func remainsOf(o Observed) []string {
	if o.isForeign() {
		return nil
	}
	var remains []string
	if o.Engine != nil {
		remains = append(remains, "the engine's VirtualMachine")
	}
	if o.Guest != nil {
		remains = append(remains, "the guest")
	}
	for i := range o.Pods {
		remains = append(remains, "pod "+o.Pods[i].Name)
	}
	return remains
}

func wantedStatus(o Observed, deps dependencies, state power) *v1alpha2.VirtualMachine {
	want := o.Machine.DeepCopy()
	status := &want.Status
	conditions := shared.NewConditions(status.Conditions, want.Generation, o.Now)
	before := shownPhase(want)

	status.ObservedGeneration = want.Generation
	status.VirtualMachineClassName = o.Machine.Spec.VirtualMachineClassName
	status.Phase = state.phase
	deps.setConditions(conditions)
	setRunning(conditions, o, state)
	setAddress(status, o, deps)
	status.BlockDeviceRefs = blockDevices(o, state.phase)
	setGuest(status, conditions, o)
	setConfiguration(status, conditions, o)
	setReady(conditions, o, state, deps)
	setStats(status, before, o)
	status.Conditions = conditions.List()
	return want
}

// shownPhase is the phase that the machine was shown in; a new one in none.
func shownPhase(machine *v1alpha2.VirtualMachine) v1alpha2.MachinePhase {
	if shared.IsNewMachine(machine) {
		return ""
	}
	return machine.Status.Phase
}

func setRunning(conditions *shared.Conditions, o Observed, state power) {
	status := metav1.ConditionFalse
	switch {
	case state.running && o.Silence != nil:
		conditions.Unknown(v1alpha2.ConditionRunning, v1alpha2.ReasonNodeNotReady, o.Silence.message())
		return
	case state.running:
		status = metav1.ConditionTrue
	}
	conditions.Set(v1alpha2.ConditionRunning, status, state.reason, state.message)
}

// setAddress shows the address that the machine has: the guest's as long as it
// runs, because a change of the claim waits for a restart.
func setAddress(status *v1alpha2.VirtualMachineStatus, o Observed, deps dependencies) {
	if running := o.guestAddress(); running != "" {
		status.IPAddress = running
		if running == deps.address || status.VirtualMachineIPAddressName == "" {
			status.VirtualMachineIPAddressName = o.ClaimName()
		}
		return
	}
	status.IPAddress, status.VirtualMachineIPAddressName = deps.address, ""
	if deps.address != "" {
		status.VirtualMachineIPAddressName = o.ClaimName()
	}
}

// setReady sums up: the machine is in the state that its policy asks for, and
// everything that it depends on is there.
func setReady(conditions *shared.Conditions, o Observed, state power, deps dependencies) {
	problem := deps.firstProblem()
	switch {
	case o.Refusal != "" && o.GuestActive():
		conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonConfigurationNotApplied,
			"The guest runs as it was started; the change is refused: "+o.Refusal)
	case problem != nil && state.reason != v1alpha2.ReasonInternalVirtualMachineError:
		conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonDependenciesNotReady, problem.message)
	case state.running && o.Silence != nil:
		conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonNodeNotReady, o.Silence.message())
	case state.running:
		conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonReady, state.message)
	case state.phase == v1alpha2.MachineStopped:
		conditions.True(v1alpha2.ConditionReady, v1alpha2.ReasonStopped, state.message)
	case state.phase == v1alpha2.MachineStarting:
		conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonStarting, state.message)
	case state.phase == v1alpha2.MachineStopping:
		conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonStopping, state.message)
	case state.phase == v1alpha2.MachinePause:
		conditions.False(v1alpha2.ConditionReady, v1alpha2.ReasonPaused, state.message)
	default:
		conditions.False(v1alpha2.ConditionReady, state.reason, state.message)
	}
}

// events tells about each change of phase with its cause, and about each new
// reason for which the machine is held up.
func events(before, after *v1alpha2.VirtualMachine) []shared.Event {
	was := meta.FindStatusCondition(before.Status.Conditions, v1alpha2.ConditionReady)
	is := meta.FindStatusCondition(after.Status.Conditions, v1alpha2.ConditionReady)
	samePhase := shownPhase(before) == after.Status.Phase
	if samePhase && (is.Status == metav1.ConditionTrue || (was != nil && was.Message == is.Message)) {
		return nil
	}
	event := shared.Event{Type: corev1.EventTypeNormal, Reason: string(after.Status.Phase), Message: is.Message}
	if after.Status.Phase == v1alpha2.MachinePending {
		event.Type = corev1.EventTypeWarning
	}
	if node := after.Status.NodeName; node != "" && after.Status.Phase == v1alpha2.MachineRunning {
		event.Message = fmt.Sprintf("%s Node: %s.", is.Message, node)
	}
	if shared.IsNewMachine(before) && after.Status.Phase == v1alpha2.MachineRunning {
		// Its start was over before there was a status to tell of it.
		return []shared.Event{{Type: corev1.EventTypeNormal, Reason: string(v1alpha2.MachineStarting), Message: startingMessage}, event}
	}
	return []shared.Event{event}
}
