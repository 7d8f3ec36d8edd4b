// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/machineclass"
)

// Node is what the decision needs to know of a node.
type Node struct {
	Name        string
	Labels      map[string]string
	Capacity    corev1.ResourceList
	Allocatable corev1.ResourceList
}

// canRunMachines tells whether the engine is ready on the node.
func (n Node) canRunMachines() bool {
	return n.Labels[machineclass.LabelSchedulable] == machineclass.Yes
}

// lacksKVM tells that the engine has looked for the processor's help and found none.
func (n Node) lacksKVM() bool {
	helps, known := machineclass.KVM(n.Capacity, n.Allocatable)
	return known && !helps
}

// choose keeps the nodes that match.
func choose(nodes []Node, match func(Node) bool) []Node {
	var out []Node
	for _, node := range nodes {
		if match(node) {
			out = append(out, node)
		}
	}
	return out
}

func names(nodes []Node) []string {
	var out []string
	for _, node := range nodes {
		out = append(out, node.Name)
	}
	slices.Sort(out)
	return out
}

// labelsOf gives the nodes as the rules about processors take them.
func labelsOf(nodes []Node) []map[string]string {
	var out []map[string]string
	for _, node := range nodes {
		out = append(out, node.Labels)
	}
	return out
}

// distinct lists the different values that the nodes have, sorted. Empty ones do not
// count.
func distinct(nodes []Node, value func(map[string]string) string) []string {
	var out []string
	for _, node := range nodes {
		if got := value(node.Labels); got != "" {
			out = append(out, got)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// maxAllocatable is, for each of the resources that machines are made of, the
// most that a single node gives.
func maxAllocatable(nodes []Node) corev1.ResourceList {
	var out corev1.ResourceList
	for _, node := range nodes {
		for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
			quantity, ok := node.Allocatable[name]
			if !ok {
				continue
			}
			if largest, seen := out[name]; seen && largest.Cmp(quantity) >= 0 {
				continue
			}
			if out == nil {
				out = corev1.ResourceList{}
			}
			out[name] = quantity.DeepCopy()
		}
	}
	return out
}
