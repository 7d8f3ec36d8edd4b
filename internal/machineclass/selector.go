// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// operators translates the words of the API into those of the label library.
var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn:           selection.In,
	corev1.NodeSelectorOpNotIn:        selection.NotIn,
	corev1.NodeSelectorOpExists:       selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt:           selection.GreaterThan,
	corev1.NodeSelectorOpLt:           selection.LessThan,
}

// NodeSelector builds the selector of spec.nodeSelector. The error names the field.
func NodeSelector(selector v1alpha2.NodeSelector) (labels.Selector, error) {
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

// DiscoverySelector builds the selector of spec.cpu.discovery.nodeSelector.
func DiscoverySelector(cpu v1alpha2.ClassCPU) (labels.Selector, error) {
	if cpu.Discovery == nil {
		return labels.Everything(), nil
	}
	selector, err := metav1.LabelSelectorAsSelector(&cpu.Discovery.NodeSelector)
	if err != nil {
		return nil, fmt.Errorf("spec.cpu.discovery.nodeSelector: %w", err)
	}
	return selector, nil
}
