// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"slices"
	"strings"

	virtv1 "kubevirt.io/api/core/v1"
)

// Labels that the engine's node labeller keeps on nodes.
const (
	LabelSchedulable       = virtv1.NodeSchedulable
	LabelObsoleteHostModel = virtv1.NodeHostModelIsObsoleteLabel

	PrefixModel     = virtv1.CPUModelLabel
	PrefixFeature   = virtv1.CPUFeatureLabel
	PrefixHostModel = virtv1.HostModelCPULabel
	PrefixVendor    = virtv1.CPUModelVendorLabel

	// Yes is the value of a label that says that something is there.
	Yes = "true"
)

// Models lists the models that a node with the labels can show, sorted.
func Models(labels map[string]string) []string { return withPrefix(labels, PrefixModel) }

// Features lists the processor features of a node with the labels, sorted.
func Features(labels map[string]string) []string { return withPrefix(labels, PrefixFeature) }

// Vendor is the maker of the processor of a node with the labels, empty when it is
// not known.
func Vendor(labels map[string]string) string {
	return strings.Join(withPrefix(labels, PrefixVendor), ", ")
}

// Kind is equal for nodes whose processors the engine cannot tell apart.
func Kind(labels map[string]string) string {
	parts := append(withPrefix(labels, PrefixVendor), withPrefix(labels, PrefixHostModel)...)
	return strings.Join(append(parts, Features(labels)...), " ")
}

func withPrefix(labels map[string]string, prefix string) []string {
	var out []string
	for key, value := range labels {
		if name, ok := strings.CutPrefix(key, prefix); ok && value == Yes {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}
