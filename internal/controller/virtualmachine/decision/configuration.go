// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// eventRestart is the reason of the event that tells of a restart of our own.
const eventRestart = "RestartedToApplyChanges"

// PlacementMatters tells that the guest may be on a node where it would not be put
// now.
func PlacementMatters(o Observed) bool {
	started := kubevirt.DecodeSpec(o.Guest.Annotations)
	if started == nil || o.Class == nil {
		return false
	}
	selector := o.Class.Spec.NodeSelector
	return len(selector.MatchLabels) > 0 || len(selector.MatchExpressions) > 0 ||
		!equality.Semantic.DeepEqual(started.NodeSelector, o.Machine.Spec.NodeSelector) ||
		!equality.Semantic.DeepEqual(started.Affinity, o.Machine.Spec.Affinity)
}

// guestToRestart names the guest that is to be restarted at once. One that could not
// be started again is let run.
func guestToRestart(o Observed, deps dependencies) types.UID {
	mayRestart := restartsItself(o) && deps.firstProblem() == nil
	if meetsGhost(o) {
		return o.Guest.UID
	}
	if !o.GuestActive() || (!mayRestart && !hasNotBegun(o)) {
		return ""
	}
	full, err := render(o, deps)
	if err == nil && ((mayRestart && restartDue(o, full)) || beginsAnew(o, full)) {
		return o.Guest.UID
	}
	return ""
}

// setConfiguration tells about changes of the spec that the guest does not have.
func setConfiguration(status *v1alpha2.VirtualMachineStatus, conditions *shared.Conditions, o Observed) {
	shown := showsGuest(status.Phase, o)
	growing := ""
	if shown {
		growing = growth(o)
	}
	switch {
	case o.Refusal != "":
		conditions.False(v1alpha2.ConditionConfigurationApplied, v1alpha2.ReasonConfigurationNotApplied, o.Refusal)
	case growing != "":
		conditions.False(v1alpha2.ConditionConfigurationApplied, v1alpha2.ReasonConfigurationNotApplied, growing)
	default:
		conditions.Remove(v1alpha2.ConditionConfigurationApplied)
	}
	var waiting *verdict
	status.RestartAwaitingChanges, waiting = awaitingRestart(o, shown)
	if waiting == nil {
		conditions.Remove(v1alpha2.ConditionAwaitingRestartToApplyConfiguration)
	} else {
		conditions.True(v1alpha2.ConditionAwaitingRestartToApplyConfiguration, waiting.reason, waiting.message)
	}
}

// growth says that the running guest is being given what it does not have yet.
func growth(o Observed) string {
	paths := isGrowing(o.Guest)
	if len(paths) == 0 {
		return untakenMemory(o.Guest)
	}
	return fmt.Sprintf("The guest is moved to another node in order to be given what is new in %s; a restart does that as well.", strings.Join(paths, " and "))
}

// untakenMemory says that memory was plugged in and the guest does not use it.
func untakenMemory(guest *virtv1.VirtualMachineInstance) string {
	memory := guest.Status.Memory
	if memory == nil || memory.GuestRequested == nil || memory.GuestCurrent == nil || memory.GuestCurrent.Cmp(*memory.GuestRequested) >= 0 {
		return ""
	}
	return fmt.Sprintf("The guest uses %s of the %s that it was given: it takes up the rest with the driver virtio_mem, or after a restart.",
		memory.GuestCurrent, memory.GuestRequested)
}

// awaitingRestart lists the changes that a running guest does not have, and says
// so; the verdict is nil when there is nothing to say.
func awaitingRestart(o Observed, shown bool) ([]v1alpha2.RestartAwaitingChange, *verdict) {
	if !shown {
		return nil, nil
	}
	if kubevirt.DecodeSpec(o.Guest.Annotations) == nil {
		return nil, &verdict{reason: v1alpha2.ReasonUnexpectedState,
			message: "It cannot be told what the guest was started with: restart the machine to apply its configuration."}
	}
	pending := changesOf(o)
	if len(pending) == 0 {
		if why := whyClassWaits(o); why != "" {
			return nil, &verdict{reason: v1alpha2.ReasonChangesPendingRestart, message: why}
		}
		return nil, nil
	}
	var changes []v1alpha2.RestartAwaitingChange
	for _, change := range pending {
		changes = append(changes, change.RestartAwaitingChange)
	}
	return changes, &verdict{reason: v1alpha2.ReasonChangesPendingRestart, message: summary(pending)}
}
