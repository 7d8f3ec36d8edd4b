// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// showsGuest tells whether the status shows what the guest is like. While it
// starts, one fact after the other becomes known; they are shown together when it
// runs, in one write.
func showsGuest(phase v1alpha2.MachinePhase, o Observed) bool {
	switch phase {
	case v1alpha2.MachineRunning, v1alpha2.MachineMigrating, v1alpha2.MachinePause, v1alpha2.MachineStopping:
		return o.GuestActive()
	}
	return false
}

// setGuest fills the part of the status that is about the running guest, or clears
// it.
func setGuest(status *v1alpha2.VirtualMachineStatus, conditions *shared.Conditions, o Observed) {
	if !showsGuest(status.Phase, o) {
		status.NodeName, status.Resources, status.GuestOSInfo, status.VirtualMachinePods = "", nil, nil, nil
		conditions.Remove(v1alpha2.ConditionAgentReady)
		conditions.Remove(v1alpha2.ConditionAgentVersionNotSupported)
		clearSoftware(status, conditions)
		clearDisruptions(conditions)
		return
	}
	status.NodeName = o.Guest.Status.NodeName
	status.Resources = resources(o)
	status.VirtualMachinePods = machinePods(o)
	status.MigrationState = migrationState(o.Guest.Status.MigrationState, status.MigrationState)
	setAgent(status, conditions, o.Guest)
	setSoftware(status, conditions, o)
	setFrozen(conditions, o.Guest)
	setDisruptions(conditions, o)
}

func setAgent(status *v1alpha2.VirtualMachineStatus, conditions *shared.Conditions, guest *virtv1.VirtualMachineInstance) {
	if isGuestCondition(guest, virtv1.VirtualMachineInstanceAgentConnected) {
		conditions.True(v1alpha2.ConditionAgentReady, v1alpha2.ReasonAgentReady, "The agent in the guest answers.")
		status.GuestOSInfo = guestOSInfo(guest.Status.GuestOSInfo)
	} else {
		conditions.False(v1alpha2.ConditionAgentReady, v1alpha2.ReasonAgentNotReady,
			"The agent in the guest does not answer; it may be starting or not installed.")
		status.GuestOSInfo = nil
	}
	if isGuestCondition(guest, virtv1.VirtualMachineInstanceUnsupportedAgent) {
		conditions.True(v1alpha2.ConditionAgentVersionNotSupported, v1alpha2.ReasonAgentVersionNotSupported,
			"The agent in the guest is too old for the platform: update it.")
	} else {
		conditions.Remove(v1alpha2.ConditionAgentVersionNotSupported)
	}
}

func guestOSInfo(in virtv1.VirtualMachineInstanceGuestOSInfo) *v1alpha2.GuestOSInfo {
	if in == (virtv1.VirtualMachineInstanceGuestOSInfo{}) {
		return nil
	}
	return &v1alpha2.GuestOSInfo{
		ID: in.ID, Name: in.Name, PrettyName: in.PrettyName, Version: in.Version, VersionID: in.VersionID,
		KernelRelease: in.KernelRelease, KernelVersion: in.KernelVersion, Machine: in.Machine,
	}
}

func guestCondition(guest *virtv1.VirtualMachineInstance, conditionType virtv1.VirtualMachineInstanceConditionType) *virtv1.VirtualMachineInstanceCondition {
	for i := range guest.Status.Conditions {
		if guest.Status.Conditions[i].Type == conditionType {
			return &guest.Status.Conditions[i]
		}
	}
	return nil
}

func isGuestCondition(guest *virtv1.VirtualMachineInstance, conditionType virtv1.VirtualMachineInstanceConditionType) bool {
	condition := guestCondition(guest, conditionType)
	return condition != nil && condition.Status == corev1.ConditionTrue
}

// resources tells what the guest really has, which is not what the spec says while a
// change waits for a restart or the guest is being given more.
func resources(o Observed) *v1alpha2.ResourcesStatus {
	domain := &o.Guest.Spec.Domain
	out := &v1alpha2.ResourcesStatus{}
	if cpu := domain.CPU; cpu != nil {
		sockets := cpu.Sockets
		if has := o.Guest.Status.CurrentCPUTopology; has != nil && has.Cores == cpu.Cores {
			sockets = has.Sockets
		}
		out.CPU.Cores = int32(sockets * cpu.Cores)
		out.CPU.Topology = &v1alpha2.CPUTopology{Sockets: int32(sockets), CoresPerSocket: int32(cpu.Cores)}
	}
	if requested, ok := domain.Resources.Requests[corev1.ResourceCPU]; ok {
		out.CPU.RequestedCores = ptr.To(requested.DeepCopy())
		if cores := guestCores(o.Guest); cores > 0 {
			out.CPU.CoreFraction = fmt.Sprintf("%d%%", requested.MilliValue()/(int64(cores)*10))
		}
	}
	if memory := domain.Memory; memory != nil && memory.Guest != nil {
		out.Memory.Size = memory.Guest.DeepCopy()
		if has := o.Guest.Status.Memory; has != nil && has.GuestCurrent != nil {
			out.Memory.Size = has.GuestCurrent.DeepCopy()
		}
	}
	out.Memory.RuntimeOverhead = memoryOverhead(o)
	return out
}

// memoryOverhead is KubeVirt's estimate of what the emulator needs, which it
// writes to the guest's status or to the pod.
func memoryOverhead(o Observed) *resource.Quantity {
	if memory := o.Guest.Status.Memory; memory != nil && memory.MemoryOverhead != nil {
		return ptr.To(memory.MemoryOverhead.DeepCopy())
	}
	for i := range o.Pods {
		if !isActivePod(o, &o.Pods[i]) {
			continue
		}
		if bytes, err := resource.ParseQuantity(o.Pods[i].Annotations[virtv1.MemoryOverheadAnnotationBytes]); err == nil {
			return resource.NewQuantity(bytes.Value(), resource.BinarySI)
		}
	}
	return nil
}

func machinePods(o Observed) []v1alpha2.VirtualMachinePod {
	var out []v1alpha2.VirtualMachinePod
	for i := range o.Pods {
		if pod := &o.Pods[i]; !hasEnded(pod) {
			out = append(out, v1alpha2.VirtualMachinePod{Name: pod.Name, Active: isActivePod(o, pod)})
		}
	}
	return out
}

// isActivePod tells whether the guest runs in this pod: it is on the guest's node
// and KubeVirt counts it.
func isActivePod(o Observed, pod *corev1.Pod) bool {
	if o.Guest == nil || pod.Spec.NodeName == "" || pod.Spec.NodeName != o.Guest.Status.NodeName {
		return false
	}
	node, counted := o.Guest.Status.ActivePods[pod.UID]
	return counted && node == pod.Spec.NodeName
}

func migrationState(in *virtv1.VirtualMachineInstanceMigrationState, shown *v1alpha2.VirtualMachineMigrationState) *v1alpha2.VirtualMachineMigrationState {
	if in == nil {
		// The last one stays visible after the guest was started anew.
		return shown
	}
	out := &v1alpha2.VirtualMachineMigrationState{
		StartTimestamp: in.StartTimestamp.DeepCopy(),
		EndTimestamp:   in.EndTimestamp.DeepCopy(),
		Source:         v1alpha2.MigrationPlace{Node: in.SourceNode, Pod: in.SourcePod},
		Target:         v1alpha2.MigrationPlace{Node: in.TargetNode, Pod: in.TargetPod},
	}
	switch {
	case in.Failed:
		out.Result = v1alpha2.MigrationFailed
	case in.Completed:
		out.Result = v1alpha2.MigrationSucceeded
	}
	return out
}

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
