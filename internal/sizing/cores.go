// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"slices"
	"strings"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// checkTopology tells whether the cores can be spread. What it advises has to be
// allowed by the class too.
func checkTopology(cores int32, class *v1alpha2.VirtualMachineClass) error {
	_, err := TopologyOf(cores)
	if err == nil || cores < 1 || cores > MaxCores || class == nil {
		return err
	}
	return fmt.Errorf("spec.cpu.cores is %d: it cannot be spread evenly over %d sockets; %s",
		cores, socketsOf(cores), adviceOnCores(cores, class))
}

func checkCores(cores int32, class *v1alpha2.VirtualMachineClass) error {
	policy := policyFor(cores, class)
	switch {
	case policy == nil:
		return fmt.Errorf("spec.cpu.cores is %d: VirtualMachineClass %s allows %s; %s",
			cores, class.Name, coreRanges(class), adviceOnCores(cores, class))
	case !onStep(cores, policy):
		return fmt.Errorf("spec.cpu.cores is %d: VirtualMachineClass %s allows steps of %d from %d; %s",
			cores, class.Name, *policy.Cores.Step, policy.Cores.Min, adviceOnCores(cores, class))
	}
	return nil
}

// policyFor picks the policy whose range the cores fall into. Ranges do not
// overlap, so that the first match is the only one.
func policyFor(cores int32, class *v1alpha2.VirtualMachineClass) *v1alpha2.SizingPolicy {
	if class == nil {
		return nil
	}
	for i := range class.Spec.SizingPolicies {
		policy := &class.Spec.SizingPolicies[i]
		if policy.Cores.Min <= cores && cores <= policy.Cores.Max {
			return policy
		}
	}
	return nil
}

func onStep(cores int32, policy *v1alpha2.SizingPolicy) bool {
	step := policy.Cores.Step
	return step == nil || *step < 1 || (cores-policy.Cores.Min)%*step == 0
}

// allowsCores tells whether a machine of the class may have as many cores, whatever
// else it asks for.
func allowsCores(cores int32, class *v1alpha2.VirtualMachineClass) bool {
	if _, err := TopologyOf(cores); err != nil {
		return false
	}
	if len(class.Spec.SizingPolicies) == 0 {
		return true
	}
	policy := policyFor(cores, class)
	return policy != nil && onStep(cores, policy)
}

// adviceOnCores names the nearest numbers of cores that the class allows. It tries
// them all: they are few, and every rule is heard.
func adviceOnCores(cores int32, class *v1alpha2.VirtualMachineClass) string {
	var use []string
	for below := min(cores, MaxCores); below >= 1; below-- {
		if allowsCores(below, class) {
			use = append(use, fmt.Sprint(below))
			break
		}
	}
	for above := cores; above <= MaxCores; above++ {
		if allowsCores(above, class) {
			use = append(use, fmt.Sprint(above))
			break
		}
	}
	if len(use) == 0 {
		return "no number of cores fits, so use another class"
	}
	return "use " + strings.Join(use, " or ")
}

func coreRanges(class *v1alpha2.VirtualMachineClass) string {
	policies := slices.Clone(class.Spec.SizingPolicies)
	slices.SortFunc(policies, func(a, b v1alpha2.SizingPolicy) int { return int(a.Cores.Min - b.Cores.Min) })
	var ranges []string
	for _, policy := range policies {
		ranges = append(ranges, fmt.Sprintf("%d to %d", policy.Cores.Min, policy.Cores.Max))
	}
	return strings.Join(ranges, ", ")
}
