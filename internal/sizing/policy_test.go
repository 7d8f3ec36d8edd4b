// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func quantity(text string) *resource.Quantity { return ptr.To(resource.MustParse(text)) }

func testClass() *v1alpha2.VirtualMachineClass {
	return &v1alpha2.VirtualMachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: "generic"},
		Spec: v1alpha2.VirtualMachineClassSpec{SizingPolicies: []v1alpha2.SizingPolicy{
			{
				Cores:         v1alpha2.SizingPolicyCores{Min: 5, Max: 16, Step: ptr.To[int32](2)},
				CoreFractions: []v1alpha2.CoreFractionPercent{20, 50, 100},
				Memory: &v1alpha2.SizingPolicyMemory{PerCore: &v1alpha2.SizingPolicyMemoryPerCore{
					Min: quantity("1Gi"), Max: quantity("8Gi"),
				}},
			},
			{
				Cores:               v1alpha2.SizingPolicyCores{Min: 1, Max: 4},
				Memory:              &v1alpha2.SizingPolicyMemory{Min: quantity("1Gi"), Max: quantity("8Gi"), Step: quantity("512Mi")},
				DefaultCoreFraction: ptr.To(intstr.FromString("25%")),
			},
		}},
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		name             string
		cores            int32
		fraction, memory string
		want             string
	}{
		{"fits", 2, "", "2Gi", ""},
		{"fits the other policy", 7, "50%", "8Gi", ""},
		{"no policy for the cores", 17, "", "2Gi", "spec.cpu.cores is 17: it cannot be spread evenly over 2 sockets; use 15"},
		{"above every policy", 18, "", "2Gi", "spec.cpu.cores is 18: VirtualMachineClass generic allows 1 to 4, 5 to 16; use 15"},
		{"between steps", 6, "50%", "8Gi", "spec.cpu.cores is 6: VirtualMachineClass generic allows steps of 2 from 5; use 5 or 7"},
		{"last step", 16, "50%", "32Gi", "spec.cpu.cores is 16: VirtualMachineClass generic allows steps of 2 from 5; use 15"},
		{"fraction not listed", 5, "25%", "8Gi", "spec.cpu.coreFraction is 25%: VirtualMachineClass generic allows 20%, 50%, 100% for 5 cores; use 20%"},
		{"bad fraction", 2, "200%", "2Gi", `spec.cpu.coreFraction: "200%" is no whole percentage from 1% to 100%`},
		{"too little memory", 2, "", "512Mi", "spec.memory.size is 512Mi: VirtualMachineClass generic allows 1Gi to 8Gi in steps of 512Mi for 2 cores; use 1Gi"},
		{"too much memory", 2, "", "9Gi", "spec.memory.size is 9Gi: VirtualMachineClass generic allows 1Gi to 8Gi in steps of 512Mi for 2 cores; use 8Gi"},
		{"too little for each core", 7, "100%", "6Gi", "spec.memory.size is 6Gi: VirtualMachineClass generic allows 7Gi to 56Gi for 7 cores; use 7Gi"},
		{"too much for each core", 5, "100%", "41Gi", "spec.memory.size is 41Gi: VirtualMachineClass generic allows 5Gi to 40Gi for 5 cores; use 40Gi"},
		{"between memory steps", 2, "", "1600Mi", "spec.memory.size is 1600Mi: VirtualMachineClass generic allows 1Gi to 8Gi in steps of 512Mi for 2 cores; use 1536Mi or 2Gi"},
		{"no memory", 2, "", "0", "spec.memory.size is 0: a machine needs some memory"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec := &v1alpha2.VirtualMachineSpec{
				CPU:    v1alpha2.CPUSpec{Cores: test.cores, CoreFraction: test.fraction},
				Memory: v1alpha2.MemorySpec{Size: resource.MustParse(test.memory)},
			}
			if got := errorText(Check(spec, testClass())); got != test.want {
				t.Errorf("got  %q\nwant %q", got, test.want)
			}
		})
	}
}

func TestCheckWithoutClassOrPolicies(t *testing.T) {
	spec := &v1alpha2.VirtualMachineSpec{
		CPU:    v1alpha2.CPUSpec{Cores: 64},
		Memory: v1alpha2.MemorySpec{Size: resource.MustParse("1Ti")},
	}
	if err := Check(spec, nil); err != nil {
		t.Error(err)
	}
	if err := Check(spec, &v1alpha2.VirtualMachineClass{}); err != nil {
		t.Error(err)
	}
	spec.CPU.CoreFraction = "half"
	if got := errorText(Check(spec, nil)); got != `spec.cpu.coreFraction: "half" is no whole percentage from 1% to 100%` {
		t.Errorf("a bad fraction: %s", got)
	}
}

func TestEffectiveFraction(t *testing.T) {
	class := testClass()
	tests := []struct {
		cores    int32
		fraction string
		want     int
	}{
		{cores: 2, fraction: "10%", want: 10},
		{cores: 2, fraction: "", want: 25},
		{cores: 2, fraction: "Auto", want: 25},
		{cores: 5, fraction: "", want: 100},
		{cores: 100, fraction: "", want: 100},
	}
	for _, test := range tests {
		spec := &v1alpha2.VirtualMachineSpec{CPU: v1alpha2.CPUSpec{Cores: test.cores, CoreFraction: test.fraction}}
		got, err := EffectiveFraction(spec, class)
		if err != nil || got != test.want {
			t.Errorf("%d cores, %q: got %d, %v; want %d", test.cores, test.fraction, got, err, test.want)
		}
	}
	class.Spec.SizingPolicies[1].DefaultCoreFraction = ptr.To(intstr.FromInt32(50))
	spec := &v1alpha2.VirtualMachineSpec{CPU: v1alpha2.CPUSpec{Cores: 2}}
	if got, err := EffectiveFraction(spec, class); err != nil || got != 50 {
		t.Errorf("a number as default: got %d, %v; want 50", got, err)
	}
	class.Spec.SizingPolicies[1].DefaultCoreFraction = ptr.To(intstr.FromString("lots"))
	if _, err := EffectiveFraction(spec, class); err == nil {
		t.Error("a class with a bad default: want an error")
	}
}

func TestRequestedCores(t *testing.T) {
	tests := []struct {
		cores   int32
		percent int
		want    string
	}{{1, 100, "1"}, {1, 5, "50m"}, {4, 25, "1"}, {3, 33, "990m"}, {248, 100, "248"}}
	for _, test := range tests {
		got := RequestedCores(test.cores, test.percent)
		if got.String() != test.want {
			t.Errorf("%d cores at %d%%: got %s, want %s", test.cores, test.percent, got.String(), test.want)
		}
	}
}
