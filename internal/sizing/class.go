// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// CheckPolicies tells what is wrong with the first wrong policy of a class. The
// error names the field.
func CheckPolicies(policies []v1alpha2.SizingPolicy) error {
	for i := range policies {
		path := fmt.Sprintf("spec.sizingPolicies[%d]", i)
		cores := policies[i].Cores
		switch {
		case cores.Min > cores.Max:
			return fmt.Errorf("%s.cores: min %d is greater than max %d; swap them", path, cores.Min, cores.Max)
		case cores.Step != nil && *cores.Step > cores.Max:
			return fmt.Errorf("%s.cores.step: %d is greater than max %d; lower it", path, *cores.Step, cores.Max)
		}
		if err := checkPolicyMemory(path+".memory", policies[i].Memory); err != nil {
			return err
		}
		if err := checkOverlap(policies[:i], i, cores); err != nil {
			return err
		}
	}
	return nil
}

// checkOverlap looks for an earlier policy that covers a count of cores too: a
// machine has to fall under exactly one.
func checkOverlap(earlier []v1alpha2.SizingPolicy, index int, cores v1alpha2.SizingPolicyCores) error {
	for i, other := range earlier {
		from, to := max(cores.Min, other.Cores.Min), min(cores.Max, other.Cores.Max)
		if from <= to {
			return fmt.Errorf("spec.sizingPolicies[%d].cores: %d-%d overlaps with spec.sizingPolicies[%d].cores %d-%d; "+
				"let each count of cores be in one policy only",
				index, cores.Min, cores.Max, i, other.Cores.Min, other.Cores.Max)
		}
	}
	return nil
}

func checkPolicyMemory(path string, memory *v1alpha2.SizingPolicyMemory) error {
	switch {
	case memory == nil:
		return nil
	case reversed(memory.Min, memory.Max):
		return fmt.Errorf("%s: min %s is greater than max %s; swap them", path, memory.Min, memory.Max)
	case memory.Step != nil && memory.Step.Sign() <= 0:
		return fmt.Errorf("%s.step: %s is not positive; raise it or leave it out", path, memory.Step)
	case memory.PerCore != nil && reversed(memory.PerCore.Min, memory.PerCore.Max):
		return fmt.Errorf("%s.perCore: min %s is greater than max %s; swap them", path, memory.PerCore.Min, memory.PerCore.Max)
	}
	return nil
}

func reversed(low, high *resource.Quantity) bool {
	return low != nil && high != nil && low.Cmp(*high) > 0
}

// DoubtfulPolicies lists what is allowed in a class and hardly meant, each with the
// field.
func DoubtfulPolicies(policies []v1alpha2.SizingPolicy) []string {
	var doubts []string
	for i, policy := range policies {
		path := fmt.Sprintf("spec.sizingPolicies[%d]", i)
		percent, given := defaultPercent(policy)
		if given && len(policy.CoreFractions) > 0 && !slices.Contains(policy.CoreFractions, v1alpha2.CoreFractionPercent(percent)) {
			doubts = append(doubts, fmt.Sprintf("%s.defaultCoreFraction: %d%% is not in coreFractions, so machines that set no "+
				"coreFraction are refused; add it there", path, percent))
		}
		if !given && len(policy.CoreFractions) > 0 && !slices.Contains(policy.CoreFractions, fullCore) {
			doubts = append(doubts, fmt.Sprintf("%s.defaultCoreFraction: it is not set, which means 100%%, and coreFractions does not "+
				"allow that, so machines that set no coreFraction are refused; set it", path))
		}
		if policy.Cores.Min > MaxCores {
			doubts = append(doubts, fmt.Sprintf("%s.cores: a machine has at most %d cores, so none falls under this policy", path, MaxCores))
		}
	}
	return doubts
}

// defaultPercent is the policy's default share of a core, if it has a readable one.
func defaultPercent(policy v1alpha2.SizingPolicy) (int, bool) {
	value := policy.DefaultCoreFraction
	switch {
	case value == nil:
		return 0, false
	case value.Type == intstr.Int:
		return int(value.IntVal), true
	}
	percent, err := parsePercent(strings.TrimSpace(value.StrVal))
	return percent, err == nil
}
