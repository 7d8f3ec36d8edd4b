// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package sizing

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// fullCore is the share of a core, in percent, of a machine for which neither its
// spec nor its class says anything.
const fullCore = 100

// milli is how many millicores a core has.
const milli = 1000

// EffectiveFraction is the guaranteed share of every core in percent: the
// machine's own, else the default of the sizing policy of its class, else a full
// core. Auto counts as not set: nothing here measures the load.
func EffectiveFraction(spec *v1alpha2.VirtualMachineSpec, class *v1alpha2.VirtualMachineClass) (int, error) {
	if text := spec.CPU.CoreFraction; text != "" && text != v1alpha2.CoreFractionAuto {
		percent, err := parsePercent(text)
		if err != nil {
			return 0, fmt.Errorf("spec.cpu.coreFraction: %w", err)
		}
		return percent, nil
	}
	policy := policyFor(spec.CPU.Cores, class)
	if policy == nil || policy.DefaultCoreFraction == nil {
		return fullCore, nil
	}
	value := policy.DefaultCoreFraction
	if value.Type == intstr.Int {
		return int(value.IntVal), nil
	}
	percent, err := parsePercent(value.StrVal)
	if err != nil {
		return 0, fmt.Errorf("the default core fraction of VirtualMachineClass %s: %w", class.Name, err)
	}
	return percent, nil
}

// RequestedCores is the processor time that a machine reserves.
func RequestedCores(cores int32, percent int) resource.Quantity {
	return *resource.NewMilliQuantity(int64(cores)*int64(percent)*milli/fullCore, resource.DecimalSI)
}

// parsePercent reads "25%" and, as classes may write it, "25".
func parsePercent(text string) (int, error) {
	percent, err := strconv.Atoi(strings.TrimSuffix(text, "%"))
	if err != nil || percent < 1 || percent > fullCore {
		return 0, fmt.Errorf("%q is no whole percentage from 1%% to 100%%", text)
	}
	return percent, nil
}
