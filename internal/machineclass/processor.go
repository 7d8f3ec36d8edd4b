// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"slices"

	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// BaseModel is the model that guests of the types Features and Discovery see below
// their features.
const BaseModel = "Nehalem"

// baseFeatures are what libvirt counts to BaseModel.
var baseFeatures = []string{
	"apic", "clflush", "cmov", "cx16", "cx8", "de", "fpu", "fxsr", "lahf_lm", "lm", "mca", "mce", "mmx", "msr", "mtrr", "nx",
	"pae", "pat", "pge", "pni", "popcnt", "pse", "pse36", "sep", "sse", "sse2", "sse4.1", "sse4.2", "ssse3", "syscall", "tsc",
}

// unmovable are features that nodes have and that nobody gets without asking for
// them: a guest with a clock that never changes its pace is moved only to nodes whose
// clock has the very same.
var unmovable = []string{"invtsc"}

// Processor is what guests see.
type Processor struct {
	// Model is what the engine calls the model; it has words of its own for the
	// node's processor.
	Model string
	// Features are what guests see beyond the model, sorted.
	Features []string
}

// ProcessorOf is the processor that a class gives to its guests. Discovered are the features
// that its discovery found; only the type Discovery looks at them.
func ProcessorOf(cpu v1alpha2.ClassCPU, discovered []string) Processor {
	switch cpu.Type {
	case v1alpha2.CPUTypeHostPassthrough:
		return Processor{Model: virtv1.CPUModeHostPassthrough}
	case v1alpha2.CPUTypeModel:
		return Processor{Model: cpu.Model}
	case v1alpha2.CPUTypeFeatures:
		return Processor{Model: BaseModel, Features: Beyond(cpu.Features)}
	case v1alpha2.CPUTypeDiscovery:
		return Processor{Model: BaseModel, Features: Beyond(discovered)}
	default:
		return Processor{Model: virtv1.CPUModeHostModel}
	}
}

// Beyond keeps the features that BaseModel does not have, sorted, each once.
func Beyond(features []string) []string {
	out := slices.Compact(slices.Sorted(slices.Values(features)))
	return slices.DeleteFunc(out, func(feature string) bool { return slices.Contains(baseFeatures, feature) })
}

// FitsNode tells whether a node with the labels can show the processor. These are the
// labels by which the engine itself chooses the node of a guest.
func (p Processor) FitsNode(labels map[string]string) bool {
	switch p.Model {
	case virtv1.CPUModeHostPassthrough:
		return true
	case virtv1.CPUModeHostModel:
		_, obsolete := labels[LabelObsoleteHostModel]
		return !obsolete
	}
	return labels[PrefixModel+p.Model] == Yes && len(p.Missing(labels)) == 0
}

// Missing lists the features that a node with the labels lacks.
func (p Processor) Missing(labels map[string]string) []string {
	var out []string
	for _, feature := range p.Features {
		if labels[PrefixFeature+feature] != Yes {
			out = append(out, feature)
		}
	}
	return out
}

// Common is what a class can promise on all nodes with the given labels: the features
// that each of them has and that do not tie a guest to its node. Nodes that cannot
// show BaseModel run no guest of the class and have no say.
func Common(nodes []map[string]string) []string {
	var common []string
	seen := false
	for _, labels := range nodes {
		if labels[PrefixModel+BaseModel] != Yes {
			continue
		}
		if !seen {
			common, seen = Features(labels), true
			continue
		}
		common = slices.DeleteFunc(common, func(feature string) bool { return labels[PrefixFeature+feature] != Yes })
	}
	return slices.DeleteFunc(common, func(feature string) bool { return slices.Contains(unmovable, feature) })
}

// Unused lists the features that every node has and guests do not see.
func (p Processor) Unused(nodes []map[string]string) []string {
	if len(nodes) == 0 {
		return nil
	}
	common := Beyond(Features(nodes[0]))
	for _, labels := range nodes[1:] {
		common = slices.DeleteFunc(common, func(feature string) bool { return labels[PrefixFeature+feature] != Yes })
	}
	return slices.DeleteFunc(common, func(feature string) bool { return slices.Contains(p.Features, feature) })
}
