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
		allocatable  corev1.ResourceList
		helps, known bool
	}{
		"nobody has looked": {corev1.ResourceList{"cpu": resource.MustParse("4")}, false, false},
		"there is none":     {corev1.ResourceList{"devices.kubevirt.io/kvm": resource.MustParse("0")}, false, true},
		"there is":          {corev1.ResourceList{"devices.kubevirt.io/kvm": resource.MustParse("1k")}, true, true},
	} {
		if helps, known := KVM(tc.allocatable); helps != tc.helps || known != tc.known {
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
