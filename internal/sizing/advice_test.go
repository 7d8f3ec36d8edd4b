// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func specOf(cores int32, fraction, memory string) *v1alpha2.VirtualMachineSpec {
	return &v1alpha2.VirtualMachineSpec{
		CPU:    v1alpha2.CPUSpec{Cores: cores, CoreFraction: fraction},
		Memory: v1alpha2.MemorySpec{Size: resource.MustParse(memory)},
	}
}

func classOfPolicies(policies ...v1alpha2.SizingPolicy) *v1alpha2.VirtualMachineClass {
	class := &v1alpha2.VirtualMachineClass{}
	class.Name = "small"
	class.Spec.SizingPolicies = policies
	return class
}

// cores is "from-to" or "from-to/step".
func cores(text string) v1alpha2.SizingPolicyCores {
	var out v1alpha2.SizingPolicyCores
	var step int32
	if n, _ := fmt.Sscanf(text, "%d-%d/%d", &out.Min, &out.Max, &step); n == 3 {
		out.Step = &step
	}
	return out
}

func TestAdviceOnCores(t *testing.T) {
	tests := []struct {
		name    string
		allowed []string
		cores   int32
		want    string
	}{
		{"between policies", []string{"1-4", "9-16"}, 6, "allows 1 to 4, 9 to 16; use 4 or 9"},
		{"above all", []string{"1-4"}, 40, "allows 1 to 4; use 4"},
		{"below all", []string{"4-8"}, 2, "allows 4 to 8; use 4"},
		{"in any order", []string{"9-16", "1-4"}, 6, "allows 1 to 4, 9 to 16; use 4 or 9"},
		{"the next step is in the next policy", []string{"1-8/3", "9-16"}, 8, "allows steps of 3 from 1; use 7 or 9"},
		{"steps that cannot be spread are passed over", []string{"17-40/3"}, 21, "over 2 sockets; use 20 or 26"},
		{"spread, but not allowed", []string{"1-16"}, 17, "over 2 sockets; use 16"},
		{"nothing can be spread", []string{"33-35"}, 34, "over 4 sockets; no number of cores fits, so use another class"},
		{"nothing but what is too large", []string{"300-400"}, 4, "allows 300 to 400; no number of cores fits, so use another class"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			class := classOfPolicies()
			for _, text := range test.allowed {
				class.Spec.SizingPolicies = append(class.Spec.SizingPolicies, v1alpha2.SizingPolicy{Cores: cores(text)})
			}
			got := errorText(Check(specOf(test.cores, "", "1Gi"), class))
			if !strings.HasPrefix(got, fmt.Sprintf("spec.cpu.cores is %d: ", test.cores)) || !strings.HasSuffix(got, test.want) {
				t.Errorf("got %q, want it to end in %q", got, test.want)
			}
		})
	}
}

// What is advised is allowed: who follows the advice is not sent on.
func TestAdviceOnCoresIsAllowed(t *testing.T) {
	class := classOfPolicies(v1alpha2.SizingPolicy{Cores: cores("2-20/4")}, v1alpha2.SizingPolicy{Cores: cores("33-200/5")})
	for asked := int32(1); asked <= 260; asked++ {
		text := errorText(Check(specOf(asked, "", "1Gi"), class))
		_, advice, found := strings.Cut(text, "; use ")
		if text == "" {
			continue
		}
		if !found && asked <= MaxCores {
			t.Errorf("%d: no advice in %q", asked, text)
		}
		for _, number := range strings.Split(advice, " or ") {
			var cores int32
			if _, err := fmt.Sscan(number, &cores); err == nil {
				if problem := errorText(Check(specOf(cores, "", "1Gi"), class)); problem != "" {
					t.Errorf("%d: advised %d: %s", asked, cores, problem)
				}
			}
		}
	}
}

func TestAdviceOnMemory(t *testing.T) {
	perCore := func(min, max string) *v1alpha2.SizingPolicyMemoryPerCore {
		return &v1alpha2.SizingPolicyMemoryPerCore{Min: quantity(min), Max: quantity(max)}
	}
	tests := []struct {
		name    string
		allowed v1alpha2.SizingPolicyMemory
		size    string
		want    string
	}{
		{"below", v1alpha2.SizingPolicyMemory{Min: quantity("1Gi")}, "1Mi", "allows at least 1Gi for 3 cores; use 1Gi"},
		{"above", v1alpha2.SizingPolicyMemory{Max: quantity("1Gi")}, "2Gi", "allows at most 1Gi for 3 cores; use 1Gi"},
		{"the last step is below the bound", v1alpha2.SizingPolicyMemory{Max: quantity("5Gi"), Step: quantity("2Gi")}, "6Gi",
			"allows at most 5Gi in steps of 2Gi for 3 cores; use 4Gi"},
		{"steps from nothing", v1alpha2.SizingPolicyMemory{Step: quantity("2Gi")}, "3Gi", "allows any size in steps of 2Gi for 3 cores; use 2Gi or 4Gi"},
		{"less than a step", v1alpha2.SizingPolicyMemory{Step: quantity("2Gi")}, "1Gi", "use 2Gi"},
		{"steps from the minimum", v1alpha2.SizingPolicyMemory{Min: quantity("1Gi"), Step: quantity("2Gi")}, "4Gi", "use 3Gi or 5Gi"},
		{"a step below what the cores need", v1alpha2.SizingPolicyMemory{Min: quantity("1Gi"), Step: quantity("2Gi"), PerCore: perCore("1Gi", "8Gi")}, "3584Mi",
			"allows 3Gi to 24Gi in steps of 2Gi for 3 cores; use 3Gi or 5Gi"},
		{"bounds that meet nowhere", v1alpha2.SizingPolicyMemory{Max: quantity("2Gi"), PerCore: perCore("1Gi", "8Gi")}, "2Gi",
			"allows 3Gi to 2Gi for 3 cores; no size fits, so use another number of cores"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			class := classOfPolicies(v1alpha2.SizingPolicy{Cores: cores("1-4"), Memory: &test.allowed})
			got := errorText(Check(specOf(3, "", test.size), class))
			if !strings.HasPrefix(got, "spec.memory.size is "+test.size+": VirtualMachineClass small allows ") || !strings.HasSuffix(got, test.want) {
				t.Errorf("got %q, want it to end in %q", got, test.want)
			}
		})
	}
	unbounded := classOfPolicies(v1alpha2.SizingPolicy{Cores: cores("1-4"), Memory: &v1alpha2.SizingPolicyMemory{}})
	if err := Check(specOf(3, "", "100Gi"), unbounded); err != nil {
		t.Errorf("a policy without bounds: %v", err)
	}
}

func TestAdviceOnFractions(t *testing.T) {
	class := classOfPolicies(v1alpha2.SizingPolicy{Cores: cores("1-4"), CoreFractions: []v1alpha2.CoreFractionPercent{5, 20, 50}})
	for fraction, want := range map[string]string{
		"":     "spec.cpu.coreFraction is not set and counts as 100%: VirtualMachineClass small allows 5%, 20%, 50% for 2 cores; use 50%",
		"Auto": "spec.cpu.coreFraction is Auto and counts as 100%: VirtualMachineClass small allows 5%, 20%, 50% for 2 cores; use 50%",
		"6%":   "spec.cpu.coreFraction is 6%: VirtualMachineClass small allows 5%, 20%, 50% for 2 cores; use 5%",
		"30%":  "spec.cpu.coreFraction is 30%: VirtualMachineClass small allows 5%, 20%, 50% for 2 cores; use 20%",
		"20%":  "",
	} {
		if got := errorText(Check(specOf(2, fraction, "1Gi"), class)); got != want {
			t.Errorf("%q: got %q, want %q", fraction, got, want)
		}
	}
}

func TestNumbersOutOfReachStaySimple(t *testing.T) {
	class := classOfPolicies(v1alpha2.SizingPolicy{Cores: cores("1-4")})
	for asked, want := range map[int32]string{
		0:   "spec.cpu.cores is 0: a machine needs at least 1",
		249: "spec.cpu.cores is 249: use at most 248",
	} {
		if got := errorText(Check(specOf(asked, "", "1Gi"), class)); got != want {
			t.Errorf("%d cores: got %q, want %q", asked, got, want)
		}
	}
	if got := ptr.Deref(cores("1-8/3").Step, 0); got != 3 {
		t.Errorf("the test's own step: %d", got)
	}
}
