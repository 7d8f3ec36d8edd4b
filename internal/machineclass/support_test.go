// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

func TestKVM(t *testing.T) {
	for name, tc := range map[string]struct {
		// Empty for a node that says nothing of the devices.
		capacity, allocatable string
		helps, known          bool
	}{
		"nobody has looked":   {"", "", false, false},
		"there is none":       {"1k", "0", false, true},
		"there is":            {"1k", "1k", true, true},
		"kubelet has started": {"0", "0", false, false},
		"the agent is coming": {"0", "1k", false, false},
		"no capacity is told": {"", "0", false, true},
	} {
		list := func(devices string) corev1.ResourceList {
			out := corev1.ResourceList{"cpu": resource.MustParse("4")}
			if devices != "" {
				out["devices.kubevirt.io/kvm"] = resource.MustParse(devices)
			}
			return out
		}
		if helps, known := KVM(list(tc.capacity), list(tc.allocatable)); helps != tc.helps || known != tc.known {
			t.Errorf("%s: %t, %t", name, helps, known)
		}
	}
}

func TestKernelSupported(t *testing.T) {
	for version, want := range map[string]bool{
		"6.1.0-18-amd64": true, "5.7.0": true, "5.15.0-generic": true, "5.6.19": false, "4.19.0-26-amd64": false, "custom": true, "": true,
	} {
		if got := KernelSupported(version); got != want {
			t.Errorf("%q: %t", version, got)
		}
	}
}
