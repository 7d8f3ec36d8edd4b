// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"strings"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Check tells whether the machine's size is one that can be laid out and that its
// class allows. The error names the field, the number and what is allowed. A nil
// class allows everything: that it is missing is reported elsewhere.
func Check(spec *v1alpha2.VirtualMachineSpec, class *v1alpha2.VirtualMachineClass) error {
	if err := checkTopology(spec.CPU.Cores, class); err != nil {
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
	if err := checkCores(spec.CPU.Cores, class); err != nil {
		return err
	}
	policy := policyFor(spec.CPU.Cores, class)
	if err := checkFraction(spec, class, policy); err != nil {
		return err
	}
	return checkMemory(spec, policy, class.Name)
}

func checkFraction(spec *v1alpha2.VirtualMachineSpec, class *v1alpha2.VirtualMachineClass, policy *v1alpha2.SizingPolicy) error {
	percent, err := EffectiveFraction(spec, class)
	if err != nil || len(policy.CoreFractions) == 0 {
		return err
	}
	var allowed []string
	nearest := int(policy.CoreFractions[0])
	for _, fraction := range policy.CoreFractions {
		if int(fraction) == percent {
			return nil
		}
		allowed = append(allowed, fmt.Sprintf("%d%%", fraction))
		if distance(int(fraction), percent) < distance(nearest, percent) {
			nearest = int(fraction)
		}
	}
	given := fmt.Sprintf("is %d%%", percent)
	switch spec.CPU.CoreFraction {
	case "":
		given = fmt.Sprintf("is not set and counts as %d%%", percent)
	case v1alpha2.CoreFractionAuto:
		given = fmt.Sprintf("is Auto and counts as %d%%", percent)
	}
	return fmt.Errorf("spec.cpu.coreFraction %s: VirtualMachineClass %s allows %s for %d cores; use %d%%",
		given, class.Name, strings.Join(allowed, ", "), spec.CPU.Cores, nearest)
}

func distance(a, b int) int { return max(a-b, b-a) }
