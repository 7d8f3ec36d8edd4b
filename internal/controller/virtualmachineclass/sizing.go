// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// sizingProblem returns what is wrong with the first wrong policy, with the path
// of the field, or nothing.
func sizingProblem(policies []v1alpha2.SizingPolicy) string {
	for i, policy := range policies {
		path := fmt.Sprintf("spec.sizingPolicies[%d]", i)
		cores := policy.Cores
		switch {
		case cores.Min > cores.Max:
			return fmt.Sprintf("%s.cores: min %d is greater than max %d; swap them", path, cores.Min, cores.Max)
		case cores.Step != nil && *cores.Step > cores.Max:
			return fmt.Sprintf("%s.cores.step: %d is greater than max %d; lower it", path, *cores.Step, cores.Max)
		}
		if problem := memoryProblem(path+".memory", policy.Memory); problem != "" {
			return problem
		}
		if problem := overlapProblem(policies[:i], i, cores); problem != "" {
			return problem
		}
	}
	return ""
}

// overlapProblem looks for an earlier policy that covers a count of cores too: a
// machine has to fall under exactly one.
func overlapProblem(earlier []v1alpha2.SizingPolicy, index int, cores v1alpha2.SizingPolicyCores) string {
	for i, other := range earlier {
		from, to := max(cores.Min, other.Cores.Min), min(cores.Max, other.Cores.Max)
		if from <= to {
			return fmt.Sprintf("spec.sizingPolicies[%d].cores: %d-%d overlaps with spec.sizingPolicies[%d].cores %d-%d; "+
				"let each count of cores be in one policy only",
				index, cores.Min, cores.Max, i, other.Cores.Min, other.Cores.Max)
		}
	}
	return ""
}

func memoryProblem(path string, memory *v1alpha2.SizingPolicyMemory) string {
	if memory == nil {
		return ""
	}
	if reversed(memory.Min, memory.Max) {
		return fmt.Sprintf("%s: min %s is greater than max %s; swap them", path, memory.Min, memory.Max)
	}
	if memory.Step != nil && memory.Step.Sign() <= 0 {
		return fmt.Sprintf("%s.step: %s is not positive; raise it or leave it out", path, memory.Step)
	}
	if perCore := memory.PerCore; perCore != nil && reversed(perCore.Min, perCore.Max) {
		return fmt.Sprintf("%s.perCore: min %s is greater than max %s; swap them", path, perCore.Min, perCore.Max)
	}
	return ""
}

func reversed(low, high *resource.Quantity) bool {
	return low != nil && high != nil && low.Cmp(*high) > 0
}
