// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// frozen is what KubeVirt shows of a guest whose file systems are frozen.
const frozen = "frozen"

// setSoftware shows what the guest runs on and whether it would get something newer.
func setSoftware(status *v1alpha2.VirtualMachineStatus, conditions *shared.Conditions, o Observed) {
	// A guest of an older release keeps what was shown when that release was there.
	if versions, known := kubevirt.VersionsOf(o.Guest.Status.LauncherContainerImageVersion, o.LauncherImage); known {
		status.Versions = ptr.To(versions)
	}
	if _, outdated := o.Guest.Labels[virtv1.OutdatedLauncherImageLabel]; outdated {
		conditions.False(v1alpha2.ConditionFirmwareUpToDate, v1alpha2.ReasonFirmwareOutOfDate,
			"The guest runs on an older emulator than this release brings: it gets the new one when it is moved or restarted.")
	} else {
		conditions.Remove(v1alpha2.ConditionFirmwareUpToDate)
	}
}

// setFrozen tells that somebody, usually a backup, holds the guest's writes.
func setFrozen(conditions *shared.Conditions, guest *virtv1.VirtualMachineInstance) {
	if guest.Status.FSFreezeStatus == frozen {
		conditions.True(v1alpha2.ConditionFilesystemFrozen, v1alpha2.ReasonFrozen,
			"The guest's file systems are frozen: its writes wait until they are thawed.")
	} else {
		conditions.Remove(v1alpha2.ConditionFilesystemFrozen)
	}
}

// clearSoftware forgets about a guest that is gone.
func clearSoftware(status *v1alpha2.VirtualMachineStatus, conditions *shared.Conditions) {
	status.Versions = nil
	conditions.Remove(v1alpha2.ConditionFirmwareUpToDate)
	conditions.Remove(v1alpha2.ConditionFilesystemFrozen)
}
