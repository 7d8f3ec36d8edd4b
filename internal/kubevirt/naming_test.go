// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestVolumeName(t *testing.T) {
	long := strings.Repeat("a", 61)
	tests := []struct {
		kind v1alpha2.BlockDeviceKind
		name string
		want string
	}{
		{"VirtualDisk", "root", "vd-root"},
		{"VirtualImage", "root", "vi-root"},
		{"ClusterVirtualImage", "root", "cvi-root"},
		{"VirtualDisk", strings.Repeat("a", 60), "vd-" + strings.Repeat("a", 60)},
		{"VirtualDisk", long, "vd-" + strings.Repeat("a", 43) + "-f9bf3487d17c93f0"},
		{"VirtualImage", strings.Repeat("a", 49), "vi-" + strings.Repeat("a", 49)},
		{"ClusterVirtualImage", "debian.13", "cvi-debian-13-8c22ca6ed2a27926"},
	}
	for _, test := range tests {
		if got := VolumeName(test.kind, test.name); got != test.want {
			t.Errorf("VolumeName(%s, %s) = %s, want %s", test.kind, test.name, got, test.want)
		}
	}
}

// KubeVirt makes container names out of volume names, with a prefix of 6 and a
// suffix of 5 characters for images.
func TestVolumeNamesFitIntoContainerNames(t *testing.T) {
	for kind, extra := range map[v1alpha2.BlockDeviceKind]int{"VirtualDisk": 0, "VirtualImage": 11, "ClusterVirtualImage": 11} {
		seen := map[string]string{}
		for _, name := range []string{
			"a", "a.b", "a-b", strings.Repeat("a", 48), strings.Repeat("a", 49), strings.Repeat("a", 50), strings.Repeat("a", 60),
			strings.Repeat("a", 63), strings.Repeat("a", 253), strings.Repeat("a.", 100) + "a", strings.Repeat("a", 31) + "-----------b.c" + strings.Repeat("d", 40),
		} {
			got := VolumeName(kind, name)
			if problems := validation.IsDNS1123Label(got); len(problems) > 0 || len(got)+extra > 63 {
				t.Errorf("%s %s: %s (%d characters) %v", kind, name, got, len(got), problems)
			}
			if other, ok := seen[got]; ok {
				t.Errorf("%s and %s are both named %s", other, name, got)
			}
			seen[got] = name
		}
	}
}

func TestSerialAndMacFollowTheUID(t *testing.T) {
	if got := Serial("uid-of-root"); got != "34fce1f4d812367d4203df7e7f0729f9" {
		t.Errorf("serial %s", got)
	}
	if got := macAddress("3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11"); got != "02:97:8d:88:4c:2b" {
		t.Errorf("MAC address %s", got)
	}
	if Serial("a") == Serial("b") || macAddress("a") == macAddress("b") {
		t.Error("two objects look like one")
	}
}
