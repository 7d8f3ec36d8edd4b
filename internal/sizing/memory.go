// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// memoryRange is what a policy comes to for one number of cores, in bytes. A bound
// that is nil is none; a step of 0 allows every size.
type memoryRange struct {
	lowest, highest *resource.Quantity
	base, step      int64
	stepText        string
}

func checkMemory(spec *v1alpha2.VirtualMachineSpec, policy *v1alpha2.SizingPolicy, className string) error {
	if policy.Memory == nil {
		return nil
	}
	allowed := rangeOf(policy.Memory, int64(spec.CPU.Cores))
	size := spec.Memory.Size
	if allowed.holds(size.Value()) {
		return nil
	}
	return fmt.Errorf("spec.memory.size is %s: VirtualMachineClass %s allows %s for %d cores; %s",
		size.String(), className, allowed, spec.CPU.Cores, allowed.advice(size.Value()))
}

func rangeOf(allowed *v1alpha2.SizingPolicyMemory, cores int64) memoryRange {
	var out memoryRange
	out.lowest, out.highest = bounds(allowed, cores)
	if allowed.Step == nil || allowed.Step.Sign() <= 0 {
		return out
	}
	out.step, out.stepText = allowed.Step.Value(), allowed.Step.String()
	if allowed.Min != nil {
		out.base = allowed.Min.Value()
	}
	return out
}

func (r memoryRange) holds(size int64) bool {
	below, ok := r.below(size)
	return ok && below == size
}

// below is the largest allowed size that is not above the given one.
func (r memoryRange) below(size int64) (int64, bool) {
	if r.highest != nil {
		size = min(size, r.highest.Value())
	}
	if r.step > 0 {
		size = floor(size-r.base, r.step) + r.base
	}
	return size, size > 0 && (r.lowest == nil || size >= r.lowest.Value())
}

// above is the smallest allowed size that is not below the given one.
func (r memoryRange) above(size int64) (int64, bool) {
	if r.lowest != nil {
		size = max(size, r.lowest.Value())
	}
	if r.step > 0 {
		size = -floor(r.base-size, r.step) + r.base
	}
	return size, r.highest == nil || size <= r.highest.Value()
}

// floor is the largest multiple of step that is not above the value.
func floor(value, step int64) int64 {
	rest := value % step
	if rest < 0 {
		rest += step
	}
	return value - rest
}

func (r memoryRange) advice(size int64) string {
	var use []string
	if below, ok := r.below(size); ok {
		use = append(use, inBytes(below))
	}
	if above, ok := r.above(size); ok {
		use = append(use, inBytes(above))
	}
	if len(use) == 0 {
		return "no size fits, so use another number of cores"
	}
	return "use " + strings.Join(use, " or ")
}

// String says what is allowed, to be read after "allows".
func (r memoryRange) String() string {
	var text string
	switch {
	case r.lowest != nil && r.highest != nil:
		text = r.lowest.String() + " to " + r.highest.String()
	case r.lowest != nil:
		text = "at least " + r.lowest.String()
	case r.highest != nil:
		text = "at most " + r.highest.String()
	default:
		text = "any size"
	}
	if r.step > 0 {
		text += " in steps of " + r.stepText
	}
	return text
}

func inBytes(value int64) string { return resource.NewQuantity(value, resource.BinarySI).String() }

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
