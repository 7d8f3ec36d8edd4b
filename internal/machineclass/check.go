// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// instead says which type gives what the engine's own words for a model mean.
var instead = map[string]v1alpha2.CPUType{
	virtv1.CPUModeHostModel:       v1alpha2.CPUTypeHost,
	virtv1.CPUModeHostPassthrough: v1alpha2.CPUTypeHostPassthrough,
}

// CheckProcessor finds what can be said of a class's processor without looking at any
// node. The error names the field.
func CheckProcessor(cpu v1alpha2.ClassCPU) error {
	if known, ok := instead[cpu.Model]; ok {
		return fmt.Errorf("spec.cpu.model: %s is no model; use the type %s", cpu.Model, known)
	}
	if cpu.Model != "" {
		if problems := validation.IsQualifiedName(PrefixModel + cpu.Model); len(problems) > 0 {
			return fmt.Errorf("spec.cpu.model: %q is no model's name (%s); those that nodes can show are in their labels %s<model>",
				cpu.Model, strings.Join(problems, ", "), PrefixModel)
		}
	}
	for i, feature := range cpu.Features {
		if problems := validation.IsQualifiedName(PrefixFeature + feature); len(problems) > 0 {
			return fmt.Errorf("spec.cpu.features[%d]: %q is no feature's name (%s); those that nodes can show are in their labels %s<feature>",
				i, feature, strings.Join(problems, ", "), PrefixFeature)
		}
	}
	return nil
}
