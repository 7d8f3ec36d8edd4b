// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

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
	if !o.guestActive() || o.Guest.DeletionTimestamp != nil || o.Guest.Status.Phase != virtv1.Scheduled ||
		o.Engine == nil || len(o.Engine.Status.StateChangeRequests) > 0 || o.Machine.Spec.RunPolicy == v1alpha2.RunPolicyAlwaysOff {
		return false
	}
	condition := guestCondition(o.Guest, virtv1.VirtualMachineInstanceSynchronized)
	return condition != nil && condition.Status == corev1.ConditionFalse && strings.Contains(condition.Message, ghostMessage)
}
