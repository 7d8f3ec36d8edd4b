// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package attachment

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// JudgeDisk tells whether a machine can have the disk. Problem says why not; waits
// that the disk is made when a machine takes it. Taken says that a guest of the
// machine has the disk, or was started to get it.
func JudgeDisk(disk *v1alpha2.VirtualDisk, machine string, taken bool) (problem, waits string) {
	title := fmt.Sprintf("VirtualDisk %s/%s", disk.Namespace, disk.Name)
	status := &disk.Status
	for _, attached := range status.AttachedToVirtualMachines {
		if attached.Mounted && attached.Name != machine {
			return DiskTaken(disk, attached.Name), ""
		}
	}
	use := meta.FindStatusCondition(status.Conditions, v1alpha2.ConditionInUse)
	if !taken && use != nil && use.Status == metav1.ConditionTrue && use.Reason == v1alpha2.ReasonUsedForImageCreation {
		return fmt.Sprintf("%s is being copied into an image: the machine starts after that.", title), ""
	}
	claimed := status.Target.PersistentVolumeClaimName != ""
	switch status.Phase {
	case v1alpha2.DiskReady, v1alpha2.DiskResizing, v1alpha2.DiskMigrating:
		return "", ""
	case v1alpha2.DiskWaitForFirstConsumer:
		if claimed {
			return "", fmt.Sprintf("%s is made when the machine's node is known.", title)
		}
	case v1alpha2.DiskProvisioning, v1alpha2.DiskWaitForUserUpload:
		// The guest was started to show its node, and its pod waits for the volume.
		if taken && claimed {
			return "", fmt.Sprintf("%s is being filled on the machine's node.", title)
		}
	case v1alpha2.DiskTerminating:
		if taken {
			return "", ""
		}
	}
	return NotReady(title, string(status.Phase), status.Conditions), ""
}

// DiskTaken is the message about a disk that another machine has.
func DiskTaken(disk *v1alpha2.VirtualDisk, writer string) string {
	return fmt.Sprintf("VirtualDisk %s/%s is attached to VirtualMachine %[1]s/%[3]s: stop that machine or use another disk.",
		disk.Namespace, disk.Name, writer)
}

// NotReady names the phase and the reason of a device. Its message is left where it
// is: it counts percents and attempts, and each count would be a write and an event
// of every machine that waits.
func NotReady(title, phase string, conditions []metav1.Condition) string {
	state := phase
	if state == "" {
		state = "new"
	}
	condition := meta.FindStatusCondition(conditions, v1alpha2.ConditionReady)
	if condition != nil && condition.Status != metav1.ConditionTrue && condition.Reason != phase {
		state += ", " + condition.Reason
	}
	return fmt.Sprintf("%s is not ready (%s): its conditions say more.", title, state)
}
