// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"fmt"
	"maps"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// goldenCases are the single cases and the matrix. Every file that they make is
// sent to KubeVirt's own webhook by test/e2e, so a new case is proven twice.
func goldenCases() map[string]func(*Input) {
	cases := maps.Clone(renderCases)
	maps.Copy(cases, guestMatrix())
	maps.Copy(cases, sizeMatrix())
	maps.Copy(cases, placementMatrix())
	return cases
}

// guestMatrix crosses everything that chooses virtual hardware. Each machine has a
// device of every sort, because bus and volume depend on both.
func guestMatrix() map[string]func(*Input) {
	cases := map[string]func(*Input){}
	for _, osType := range []v1alpha2.OSType{v1alpha2.OSTypeGeneric, v1alpha2.OSTypeWindows} {
		for _, bootloader := range []v1alpha2.Bootloader{v1alpha2.BootloaderBIOS, v1alpha2.BootloaderEFI, v1alpha2.BootloaderEFIWithSecureBoot} {
			for _, drivers := range []string{"virtio", "emulated"} {
				name := strings.ToLower(fmt.Sprintf("guest-%s-%s-%s", osType, bootloader, drivers))
				cases[name] = func(in *Input) {
					spec := &in.Machine.Spec
					spec.OSType, spec.Bootloader, spec.EnableParavirtualization = osType, bootloader, ptr.To(drivers == "virtio")
					withEveryDevice(in)
				}
			}
		}
	}
	return cases
}

func withEveryDevice(in *Input) {
	claimed := imageDevice(v1alpha2.BlockDeviceVirtualImage, "on-claim", false)
	claimed.Image, claimed.PersistentVolumeClaim = "", "d8v-vi-on-claim"
	claimedCDROM := imageDevice(v1alpha2.BlockDeviceVirtualImage, "iso-on-claim", true)
	claimedCDROM.Image, claimedCDROM.PersistentVolumeClaim = "", "d8v-vi-iso-on-claim"
	in.Devices = append(in.Devices,
		Device{Ref: v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "data"}, UID: "uid-of-data", PersistentVolumeClaim: "d8v-vd-data"},
		imageDevice(v1alpha2.BlockDeviceVirtualImage, "tools", false),
		imageDevice(v1alpha2.BlockDeviceClusterVirtualImage, "installer", true),
		claimed, claimedCDROM)
	for i := range in.Devices {
		in.Devices[i].UID = types.UID(fmt.Sprintf("uid-of-%s", in.Devices[i].Ref.Name))
	}
}

// sizeMatrix has one machine for each layout of cores, up to the largest.
func sizeMatrix() map[string]func(*Input) {
	cases := map[string]func(*Input){}
	for _, cores := range []int32{1, 16, 18, 64, 248} {
		cases[fmt.Sprintf("size-%d-cores", cores)] = func(in *Input) {
			in.Machine.Spec.CPU = v1alpha2.CPUSpec{Cores: cores, CoreFraction: "5%"}
			in.Machine.Spec.Memory.Size = resource.MustParse(fmt.Sprintf("%dMi", 256*cores))
		}
	}
	cases["size-most-devices"] = func(in *Input) {
		for i := 1; i < 16; i++ {
			name := fmt.Sprintf("%s-%02d", strings.Repeat("long-name", 7), i)
			in.Devices = append(in.Devices, Device{
				Ref: v1alpha2.BlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: name},
				UID: "uid", PersistentVolumeClaim: "d8v-vd-" + name,
			})
		}
	}
	return cases
}

// placementMatrix has every field of the placement alone: together they would
// hide which of them was refused.
func placementMatrix() map[string]func(*Input) {
	zone := corev1.NodeSelectorRequirement{Key: "zone", Operator: corev1.NodeSelectorOpExists}
	term := v1alpha2.VirtualMachineAndPodAffinityTerm{
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}},
		TopologyKey:   "kubernetes.io/hostname", NamespaceSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"release"},
	}
	return map[string]func(*Input){
		"placement-node-preferred": func(in *Input) {
			in.Machine.Spec.Affinity = &v1alpha2.Affinity{NodeAffinity: &corev1.NodeAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
					{Weight: 5, Preference: corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{zone}}},
				},
			}}
			in.Class.Spec.NodeSelector.MatchExpressions = []corev1.NodeSelectorRequirement{{Key: "pool", Operator: corev1.NodeSelectorOpIn, Values: []string{"class"}}}
		},
		"placement-near": func(in *Input) {
			in.Machine.Spec.Affinity = &v1alpha2.Affinity{VirtualMachineAndPodAffinity: &v1alpha2.VirtualMachineAndPodAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []v1alpha2.VirtualMachineAndPodAffinityTerm{term},
			}}
		},
		"placement-far": func(in *Input) {
			in.Machine.Spec.Affinity = &v1alpha2.Affinity{VirtualMachineAndPodAntiAffinity: &v1alpha2.VirtualMachineAndPodAntiAffinity{
				PreferredDuringSchedulingIgnoredDuringExecution: []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm{
					{Weight: 100, VirtualMachineAndPodAffinityTerm: term},
				},
			}}
		},
		"placement-tolerations": func(in *Input) {
			in.Machine.Spec.Tolerations = []corev1.Toleration{
				{Key: "dedicated", Operator: corev1.TolerationOpEqual, Value: "machines", Effect: corev1.TaintEffectNoSchedule},
				{Key: "node.kubernetes.io/unreachable", Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute, TolerationSeconds: ptr.To[int64](30)},
			}
		},
	}
}

// Two machines of the matrix that differ in nothing would be one test twice.
func TestMatrixCasesDiffer(t *testing.T) {
	seen := map[string]string{}
	for name, change := range goldenCases() {
		in := testInput()
		change(&in)
		rendered, err := Render(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		content := string(marshal(t, rendered))
		if other, known := seen[content]; known {
			t.Errorf("%s and %s are rendered alike", name, other)
		}
		seen[content] = name
	}
}
