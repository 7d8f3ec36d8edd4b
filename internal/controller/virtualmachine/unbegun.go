// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// hasNotBegun tells that the guest has executed nothing yet: its pod cannot be made,
// or waits for a node.
func hasNotBegun(o Observed) bool {
	if !o.guestActive() || o.Guest.DeletionTimestamp != nil {
		return false
	}
	return precedesNode(o.Guest.Status.Phase)
}

// precedesNode tells that a guest has no node yet.
func precedesNode(phase virtv1.VirtualMachineInstancePhase) bool {
	return phase == virtv1.VmPhaseUnset || phase == virtv1.Pending || phase == virtv1.Scheduling
}

// beginsAnew tells that such a guest was made from what the machine is no more, for
// example with a selector that no node satisfies and that was corrected since.
// KubeVirt would go on trying the old one for ever. Nothing is lost when it is made
// anew, so that nobody has to be asked. As with every restart, the engine must have
// the new machine first, and a guest that was made from it is left alone.
func beginsAnew(o Observed, full *virtv1.VirtualMachine) bool {
	if !hasNotBegun(o) || o.Engine == nil || o.Machine.Spec.RunPolicy == v1alpha2.RunPolicyAlwaysOff {
		return false
	}
	if len(o.Engine.Status.StateChangeRequests) > 0 || !showsAll(o.Engine, full) ||
		o.Guest.Status.VirtualMachineRevisionName == revisionName(o.Engine) {
		return false
	}
	wanted := full.Spec.Template.ObjectMeta.Annotations[v1alpha2.AnnotationLastAppliedSpec]
	return o.Guest.Annotations[v1alpha2.AnnotationLastAppliedSpec] != wanted || kubevirt.NeedsStart(full, o.Guest)
}

// restartMessage is the cause of a restart of our own.
func restartMessage(o Observed) string {
	switch {
	case meetsGhost(o):
		return "The guest has not begun to run and is made anew, because its node has not forgotten the machine's guest before it."
	case hasNotBegun(o):
		return "The guest has not begun to run and is made anew, because the machine was changed."
	}
	return "The guest is restarted, because restartApprovalMode is Automatic. " + summary(changesOf(o))
}
