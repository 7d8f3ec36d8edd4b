// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"regexp"
	"strconv"

	corev1 "k8s.io/api/core/v1"
)

// ResourceKVM is what the engine's agent on a node offers guests of the processor's help.
const ResourceKVM = corev1.ResourceName("devices.kubevirt.io/kvm")

// The oldest kernel on which guests are known to run and move well; the hook requirements says the same of nodes.
const (
	kernelMajor = 5
	kernelMinor = 7
)

// KVM tells whether the processor of a node helps guests. It is not known before the engine's agent has looked: after a
// start of kubelet there are no devices at all, healthy or not, until the agent comes.
func KVM(capacity, allocatable corev1.ResourceList) (helps, known bool) {
	if all, told := capacity[ResourceKVM]; told && all.IsZero() {
		return false, false
	}
	devices, known := allocatable[ResourceKVM]
	return !devices.IsZero(), known
}

var kernelVersion = regexp.MustCompile(`^(\d+)\.(\d+)`)

// KernelSupported tells whether a kernel is new enough, as kubelet names it: 6.1.0-18-amd64. A name that says nothing is
// that of a special build, which somebody has chosen.
func KernelSupported(version string) bool {
	found := kernelVersion.FindStringSubmatch(version)
	if found == nil {
		return true
	}
	major, _ := strconv.Atoi(found[1])
	minor, _ := strconv.Atoi(found[2])
	return major > kernelMajor || major == kernelMajor && minor >= kernelMinor
}
