// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// shownTransitions is how many changes of phase a machine remembers.
const shownTransitions = 5

// setStats records a change of phase and how long the steps of a start took.
func setStats(want *v1alpha2.VirtualMachineStatus, before v1alpha2.MachinePhase, o Observed) {
	if want.Stats == nil {
		want.Stats = &v1alpha2.VirtualMachineStats{}
	}
	if want.Phase != before {
		recordPhase(want, before, o)
	}
	setAgentStart(want.Stats, o)
}

func recordPhase(want *v1alpha2.VirtualMachineStatus, before v1alpha2.MachinePhase, o Observed) {
	stats := want.Stats
	now := metav1.NewTime(o.Now.Truncate(time.Second))
	if before == "" {
		addUnshown(stats, want.Phase, o)
	}
	stats.PhasesTransitions = append(stats.PhasesTransitions, v1alpha2.PhaseTransition{Phase: want.Phase, Timestamp: &now})
	if surplus := len(stats.PhasesTransitions) - shownTransitions; surplus > 0 {
		stats.PhasesTransitions = stats.PhasesTransitions[surplus:]
	}
	switch {
	case want.Phase == v1alpha2.MachineStarting:
		stats.LaunchTimeDuration = v1alpha2.LaunchTimeDuration{WaitingForDependencies: sinceTransition(stats, v1alpha2.MachinePending, now)}
	case want.Phase == v1alpha2.MachineRunning && isStart(before):
		stats.LastStartTime = guestStart(o, now)
		stats.LaunchTimeDuration.VirtualMachineStarting = sinceTransition(stats, v1alpha2.MachineStarting, now)
	}
}

// addUnshown records the phases that a new machine went through while there was
// nothing to tell that was worth a write: pending until it was rendered, and, when its
// guest runs already, starting from then on.
func addUnshown(stats *v1alpha2.VirtualMachineStats, phase v1alpha2.MachinePhase, o Observed) {
	if phase == v1alpha2.MachinePending {
		return
	}
	created := o.Machine.CreationTimestamp
	stats.PhasesTransitions = append(stats.PhasesTransitions, v1alpha2.PhaseTransition{Phase: v1alpha2.MachinePending, Timestamp: &created})
	if phase != v1alpha2.MachineRunning || o.Engine == nil {
		return
	}
	rendered := o.Engine.CreationTimestamp
	stats.PhasesTransitions = append(stats.PhasesTransitions, v1alpha2.PhaseTransition{Phase: v1alpha2.MachineStarting, Timestamp: &rendered})
	stats.LaunchTimeDuration.WaitingForDependencies = &metav1.Duration{Duration: rendered.Sub(created.Time)}
}

// isStart tells whether coming from this phase to Running is a start of the guest.
func isStart(before v1alpha2.MachinePhase) bool {
	return before != v1alpha2.MachinePause && before != v1alpha2.MachineMigrating
}

// sinceTransition is the time since the machine came into a phase, if that was the
// phase just before.
func sinceTransition(stats *v1alpha2.VirtualMachineStats, phase v1alpha2.MachinePhase, now metav1.Time) *metav1.Duration {
	last := len(stats.PhasesTransitions) - 2
	if last < 0 || stats.PhasesTransitions[last].Phase != phase || stats.PhasesTransitions[last].Timestamp == nil {
		return nil
	}
	return &metav1.Duration{Duration: now.Sub(stats.PhasesTransitions[last].Timestamp.Time)}
}

// guestStart is when KubeVirt saw the guest run.
func guestStart(o Observed, now metav1.Time) *metav1.Time {
	if o.Guest != nil {
		for _, transition := range o.Guest.Status.PhaseTransitionTimestamps {
			if transition.Phase == virtv1.Running {
				return transition.PhaseTransitionTimestamp.DeepCopy()
			}
		}
	}
	return &now
}

// setAgentStart records once for each start how long the agent took to answer.
func setAgentStart(stats *v1alpha2.VirtualMachineStats, o Observed) {
	if stats.LaunchTimeDuration.GuestOSAgentStarting != nil || stats.LastStartTime == nil || !o.GuestActive() {
		return
	}
	agent := guestCondition(o.Guest, virtv1.VirtualMachineInstanceAgentConnected)
	if agent == nil {
		return
	}
	since := agent.LastTransitionTime
	if since.IsZero() {
		// KubeVirt notes only this one when the agent answers for the first time.
		since = agent.LastProbeTime
	}
	if since.Before(stats.LastStartTime) {
		return
	}
	stats.LaunchTimeDuration.GuestOSAgentStarting = &metav1.Duration{Duration: since.Sub(stats.LastStartTime.Time)}
}
