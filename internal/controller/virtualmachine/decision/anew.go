// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// hasNotBegun tells that the guest has executed nothing yet: its pod cannot be made,
// or waits for a node.
func hasNotBegun(o Observed) bool {
	if !o.GuestActive() || o.Guest.DeletionTimestamp != nil {
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

// ghostMessage is what the engine's agent on a node says of a guest that it cannot
// connect to, because it still has its record of an earlier guest of the same name.
const ghostMessage = "can not add ghost record when entry already exists with differing UID"

// meetsGhost tells that the guest waits for ever, because its node has not forgotten an
// earlier guest of the machine.
//
// The agent (KubeVirt's virt-handler) keeps such a record for each guest that it is
// connected to, by namespace and name, and drops it when it cleans up after the guest.
// It cleans up on the node that a guest has left by a migration only while it is shown
// the guest's shut off domain there. When that attempt fails, or the domain is gone
// before it, nobody tries again: the guest is another node's by then. The record stays,
// no field of the API shows it, and the next guest of that name on the node is refused.
//
// Cleaning up after the refused guest drops the record, whosever it was. So that guest,
// which has executed nothing, is made anew.
func meetsGhost(o Observed) bool {
	if !o.GuestActive() || o.Guest.DeletionTimestamp != nil || o.Guest.Status.Phase != virtv1.Scheduled ||
		o.Engine == nil || len(o.Engine.Status.StateChangeRequests) > 0 || o.Machine.Spec.RunPolicy == v1alpha2.RunPolicyAlwaysOff {
		return false
	}
	condition := guestCondition(o.Guest, virtv1.VirtualMachineInstanceSynchronized)
	return condition != nil && condition.Status == corev1.ConditionFalse && strings.Contains(condition.Message, ghostMessage)
}
