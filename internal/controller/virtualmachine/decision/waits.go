// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// memoryBlock is the unit in which memory is plugged into a running guest.
const memoryBlock = 2 << 20

// guestCores is how many cores the guest has or is being given; zero if it does not
// say.
func guestCores(guest *virtv1.VirtualMachineInstance) int32 {
	cpu := guest.Spec.Domain.CPU
	if cpu == nil {
		return 0
	}
	return int32(cpu.Sockets * cpu.Cores)
}

// guestMemory is how much memory the guest has or is being given; nil if it does
// not say.
func guestMemory(guest *virtv1.VirtualMachineInstance) *resource.Quantity {
	if guest.Spec.Domain.Memory == nil {
		return nil
	}
	return guest.Spec.Domain.Memory.Guest
}

// whyCoresWait tells why the running guest cannot be given the cores that the spec
// asks for; it is empty when it can. Cores come in whole sockets, and what the
// guest was started with says how many there is room for.
func whyCoresWait(o Observed) string {
	cpu := o.Guest.Spec.Domain.CPU
	want := uint32(max(0, o.Machine.Spec.CPU.Cores))
	switch {
	case cpu == nil || cpu.Cores == 0:
		return "the engine does not tell the guest's cores"
	case want == cpu.Sockets*cpu.Cores:
		return ""
	case want < cpu.Sockets*cpu.Cores:
		return "cores are not taken away from a running guest"
	case cpu.MaxSockets <= cpu.Sockets:
		return "the guest was started without room for more cores"
	case want%cpu.Cores != 0:
		return fmt.Sprintf("the guest was started with %d cores per socket and is given whole sockets", cpu.Cores)
	case want > cpu.MaxSockets*cpu.Cores:
		return fmt.Sprintf("the guest was started with room for %d cores", cpu.MaxSockets*cpu.Cores)
	}
	return whyGuestStays(o)
}

// whyMemoryWaits is the same for memory.
func whyMemoryWaits(o Observed) string {
	memory, want := o.Guest.Spec.Domain.Memory, o.Machine.Spec.Memory.Size
	if memory == nil || memory.Guest == nil {
		return "the engine does not tell the guest's memory"
	}
	if want.Cmp(*memory.Guest) == 0 {
		return ""
	}
	if status := o.Guest.Status.Memory; status != nil && status.GuestAtBoot != nil && want.Cmp(*status.GuestAtBoot) < 0 {
		return "a running guest keeps the memory that it was started with"
	}
	failed := guestCondition(o.Guest, virtv1.VirtualMachineInstanceMemoryChange)
	switch {
	case memory.MaxGuest == nil:
		return "the guest was started without room for more memory, for which it takes at least 1Gi"
	case !ptr.Deref(o.Machine.Spec.EnableParavirtualization, true):
		return "the guest has no paravirtualized devices, of which memory that is plugged in is one"
	case want.Cmp(*memory.MaxGuest) > 0:
		return fmt.Sprintf("the guest was started with room for %s", memory.MaxGuest)
	case want.Value()%memoryBlock != 0:
		return "memory is plugged into a running guest in blocks of 2Mi"
	case failed != nil && failed.Status == corev1.ConditionFalse:
		return "the guest refused more memory"
	}
	return whyGuestStays(o)
}

// whyGuestStays tells why the guest cannot move to another node; empty when it can.
// KubeVirt plugs cores and memory in while it moves the guest, because the pod that
// it runs in cannot be given more.
func whyGuestStays(o Observed) string {
	condition := guestCondition(o.Guest, virtv1.VirtualMachineInstanceIsMigratable)
	switch {
	case condition == nil:
		return "the engine does not tell whether the guest can be moved to another node, which growing takes"
	case condition.Status != corev1.ConditionTrue:
		return "the guest cannot be moved to another node, which growing takes: " + condition.Message
	}
	return ""
}

// isGrowing names what the guest was promised and does not have yet; empty when
// there is nothing.
func isGrowing(guest *virtv1.VirtualMachineInstance) []string {
	var paths []string
	cpu, has := guest.Spec.Domain.CPU, guest.Status.CurrentCPUTopology
	if cpu != nil && has != nil && cpu.Sockets*cpu.Cores != has.Sockets*has.Cores {
		paths = append(paths, pathCores)
	}
	memory, hasMemory := guestMemory(guest), guest.Status.Memory
	if memory != nil && hasMemory != nil && hasMemory.GuestRequested != nil && memory.Cmp(*hasMemory.GuestRequested) != 0 {
		paths = append(paths, pathMemory)
	}
	return paths
}

// whyNodeSelectorWaits tells that the guest is where its new selector would not put
// it. The engine knows the selector at once and heeds it when the guest moves; it
// does not move it for that.
func whyNodeSelectorWaits(o Observed) string {
	return whyPlacementWaits(o, &corev1.PodSpec{NodeSelector: o.Machine.Spec.NodeSelector})
}

// whyAffinityWaits is the same for what is required of nodes. What is asked of the
// other pods of a node is only heeded by the scheduler.
func whyAffinityWaits(o Observed) string {
	affinity := o.Machine.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil {
		return ""
	}
	return whyPlacementWaits(o, &corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: affinity.NodeAffinity}})
}

// whyClassWaits tells that the class has come to want its machines elsewhere.
func whyClassWaits(o Observed) string {
	if o.Class == nil {
		return ""
	}
	selector := o.Class.Spec.NodeSelector
	if len(selector.MatchLabels) == 0 && len(selector.MatchExpressions) == 0 {
		return ""
	}
	placement := kubevirt.PlacementFor(&o.Machine.Spec, o.Class)
	if why := whyPlacementWaits(o, &corev1.PodSpec{NodeSelector: placement.NodeSelector, Affinity: placement.Affinity}); why == "" {
		return ""
	}
	return fmt.Sprintf("VirtualMachineClass %s does not select the node %s that the guest runs on: restart the machine or move it.",
		o.Class.Name, o.Guest.Status.NodeName)
}

func whyPlacementWaits(o Observed, spec *corev1.PodSpec) string {
	if o.Node == nil {
		return ""
	}
	matches, err := nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: *spec}).Match(o.Node)
	switch {
	case err != nil:
		return fmt.Sprintf("it cannot be told whether it selects the node %s: %s", o.Node.Name, err)
	case !matches:
		return fmt.Sprintf("the guest runs on %s, which it does not select; moving the machine does as well", o.Node.Name)
	}
	return ""
}
