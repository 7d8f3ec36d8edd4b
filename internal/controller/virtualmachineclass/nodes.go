// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// Labels that the engine's node labeller keeps on nodes.
const (
	labelSchedulable = "kubevirt.io/schedulable"
	prefixCPUModel   = "cpu-model.node.kubevirt.io/"
	prefixCPUFeature = "cpu-feature.node.kubevirt.io/"
	labelYes         = "true"
)

// Node is what the decision needs to know of a node.
type Node struct {
	Name        string
	Labels      map[string]string
	Allocatable corev1.ResourceList
}

// canRunMachines tells whether the engine is ready on the node.
func (n Node) canRunMachines() bool { return n.Labels[labelSchedulable] == labelYes }

// cpuFeatures lists the processor features of the node, sorted.
func (n Node) cpuFeatures() []string {
	var out []string
	for key, value := range n.Labels {
		if feature, ok := strings.CutPrefix(key, prefixCPUFeature); ok && value == labelYes {
			out = append(out, feature)
		}
	}
	slices.Sort(out)
	return out
}

func (n Node) hasFeatures(features []string) bool {
	for _, feature := range features {
		if n.Labels[prefixCPUFeature+feature] != labelYes {
			return false
		}
	}
	return true
}

// operators translates the words of the API into those of the label library.
var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn:           selection.In,
	corev1.NodeSelectorOpNotIn:        selection.NotIn,
	corev1.NodeSelectorOpExists:       selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt:           selection.GreaterThan,
	corev1.NodeSelectorOpLt:           selection.LessThan,
}

// classSelector builds the selector of spec.nodeSelector. The error names the field.
func classSelector(selector v1alpha2.NodeSelector) (labels.Selector, error) {
	const field = "spec.nodeSelector"
	out := labels.NewSelector()
	for _, key := range slices.Sorted(maps.Keys(selector.MatchLabels)) {
		requirement, err := labels.NewRequirement(key, selection.Equals, []string{selector.MatchLabels[key]})
		if err != nil {
			return nil, fmt.Errorf("%s.matchLabels[%s]: %w", field, key, err)
		}
		out = out.Add(*requirement)
	}
	for i, expression := range selector.MatchExpressions {
		operator, known := operators[expression.Operator]
		if !known {
			return nil, fmt.Errorf("%s.matchExpressions[%d].operator: %q is unknown; use In, NotIn, Exists, DoesNotExist, Gt or Lt",
				field, i, expression.Operator)
		}
		requirement, err := labels.NewRequirement(expression.Key, operator, expression.Values)
		if err != nil {
			return nil, fmt.Errorf("%s.matchExpressions[%d]: %w", field, i, err)
		}
		out = out.Add(*requirement)
	}
	return out, nil
}

// discoverySelector builds the selector of spec.cpu.discovery.nodeSelector.
func discoverySelector(cpu v1alpha2.ClassCPU) (labels.Selector, error) {
	if cpu.Discovery == nil {
		return labels.Everything(), nil
	}
	selector, err := metav1.LabelSelectorAsSelector(&cpu.Discovery.NodeSelector)
	if err != nil {
		return nil, fmt.Errorf("spec.cpu.discovery.nodeSelector: %w", err)
	}
	return selector, nil
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

// commonFeatures is the intersection of the nodes' features, sorted.
func commonFeatures(nodes []Node) []string {
	if len(nodes) == 0 {
		return nil
	}
	common := nodes[0].cpuFeatures()
	for _, node := range nodes[1:] {
		common = slices.DeleteFunc(common, func(feature string) bool { return !node.hasFeatures([]string{feature}) })
	}
	return common
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
