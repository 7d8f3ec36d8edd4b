// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Check tells whether the machine's size is one that can be laid out and that its
// class allows. The error names the field, the number and what is allowed. A nil
// class allows everything: that it is missing is reported elsewhere.
func Check(spec *v1alpha2.VirtualMachineSpec, class *v1alpha2.VirtualMachineClass) error {
	if _, err := TopologyOf(spec.CPU.Cores); err != nil {
		return err
	}
	if spec.Memory.Size.Sign() <= 0 {
		return fmt.Errorf("spec.memory.size is %s: a machine needs some memory", spec.Memory.Size.String())
	}
	if _, err := EffectiveFraction(spec, class); err != nil {
		return err
	}
	if class == nil || len(class.Spec.SizingPolicies) == 0 {
		return nil
	}
	policy := policyFor(spec.CPU.Cores, class)
	if policy == nil {
		return fmt.Errorf("spec.cpu.cores is %d: VirtualMachineClass %s allows %s",
			spec.CPU.Cores, class.Name, coreRanges(class))
	}
	if err := checkCores(spec.CPU.Cores, policy.Cores, class.Name); err != nil {
		return err
	}
	if err := checkFraction(spec, class, policy); err != nil {
		return err
	}
	return checkMemory(spec, policy, class.Name)
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

func coreRanges(class *v1alpha2.VirtualMachineClass) string {
	policies := slices.Clone(class.Spec.SizingPolicies)
	slices.SortFunc(policies, func(a, b v1alpha2.SizingPolicy) int { return int(a.Cores.Min - b.Cores.Min) })
	var ranges []string
	for _, policy := range policies {
		ranges = append(ranges, fmt.Sprintf("%d to %d", policy.Cores.Min, policy.Cores.Max))
	}
	return strings.Join(ranges, ", ")
}

func checkCores(cores int32, allowed v1alpha2.SizingPolicyCores, className string) error {
	if allowed.Step == nil || *allowed.Step < 1 {
		return nil
	}
	rest := (cores - allowed.Min) % *allowed.Step
	if rest == 0 {
		return nil
	}
	lower, upper := cores-rest, cores-rest+*allowed.Step
	nearest := fmt.Sprintf("%d or %d", lower, upper)
	if upper > allowed.Max {
		nearest = fmt.Sprint(lower)
	}
	return fmt.Errorf("spec.cpu.cores is %d: VirtualMachineClass %s allows steps of %d from %d; use %s",
		cores, className, *allowed.Step, allowed.Min, nearest)
}

func checkFraction(spec *v1alpha2.VirtualMachineSpec, class *v1alpha2.VirtualMachineClass, policy *v1alpha2.SizingPolicy) error {
	percent, err := EffectiveFraction(spec, class)
	if err != nil || len(policy.CoreFractions) == 0 {
		return err
	}
	var allowed []string
	for _, fraction := range policy.CoreFractions {
		if int(fraction) == percent {
			return nil
		}
		allowed = append(allowed, fmt.Sprintf("%d%%", fraction))
	}
	return fmt.Errorf("spec.cpu.coreFraction is %d%%: VirtualMachineClass %s allows %s for %d cores",
		percent, class.Name, strings.Join(allowed, ", "), spec.CPU.Cores)
}

func checkMemory(spec *v1alpha2.VirtualMachineSpec, policy *v1alpha2.SizingPolicy, className string) error {
	allowed := policy.Memory
	if allowed == nil {
		return nil
	}
	size, cores := spec.Memory.Size, int64(spec.CPU.Cores)
	lowest, highest := bounds(allowed, cores)
	refuse := func(use string, bound resource.Quantity) error {
		return fmt.Errorf("spec.memory.size is %s: VirtualMachineClass %s allows %s %s for %d cores",
			size.String(), className, use, bound.String(), cores)
	}
	switch {
	case lowest != nil && size.Cmp(*lowest) < 0:
		return refuse("at least", *lowest)
	case highest != nil && size.Cmp(*highest) > 0:
		return refuse("at most", *highest)
	case allowed.Step == nil || allowed.Step.Sign() <= 0:
		return nil
	}
	var base int64
	if allowed.Min != nil {
		base = allowed.Min.Value()
	}
	if rest := (size.Value() - base) % allowed.Step.Value(); rest != 0 {
		nearest := resource.NewQuantity(size.Value()-rest, resource.BinarySI)
		return fmt.Errorf("spec.memory.size is %s: VirtualMachineClass %s allows steps of %s; the nearest below is %s",
			size.String(), className, allowed.Step.String(), nearest.String())
	}
	return nil
}

// bounds joins the bounds for the machine as a whole with those for each core.
func bounds(allowed *v1alpha2.SizingPolicyMemory, cores int64) (lowest, highest *resource.Quantity) {
	lowest, highest = allowed.Min, allowed.Max
	if perCore := allowed.PerCore; perCore != nil {
		if bound := times(perCore.Min, cores); bound != nil && (lowest == nil || bound.Cmp(*lowest) > 0) {
			lowest = bound
		}
		if bound := times(perCore.Max, cores); bound != nil && (highest == nil || bound.Cmp(*highest) < 0) {
			highest = bound
		}
	}
	return lowest, highest
}

func times(quantity *resource.Quantity, factor int64) *resource.Quantity {
	if quantity == nil {
		return nil
	}
	return resource.NewQuantity(quantity.Value()*factor, quantity.Format)
}
