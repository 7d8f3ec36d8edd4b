// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package placement finds the nodes that a running guest could move to. It is
// pure, and asks only for what lasts: labels, required affinity, taints and the
// processor. How full a node is, and whether it is cordoned or silent at this
// moment, is left to the scheduler: it may be different when the guest moves.
package placement

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

// Others lists the nodes apart from the guest's own that could take it, sorted.
func Others(guest *virtv1.VirtualMachineInstance, nodes []corev1.Node) []string {
	var own *corev1.Node
	for i := range nodes {
		if nodes[i].Name == guest.Status.NodeName {
			own = &nodes[i]
		}
	}
	wanted := wantedLabels(guest, own)
	var out []string
	for i := range nodes {
		node := &nodes[i]
		if node.Name != guest.Status.NodeName && CanRunGuests(node) && hasAll(node.Labels, wanted) &&
			matchesAffinity(node, guest.Spec.Affinity) && toleratesTaints(guest.Spec.Tolerations, node.Spec.Taints) {
			out = append(out, node.Name)
		}
	}
	slices.Sort(out)
	return out
}

// CanRunGuests tells that the engine's agent has been on the node, whether or not
// it answers now.
func CanRunGuests(node *corev1.Node) bool {
	_, labelled := node.Labels[virtv1.NodeSchedulable]
	return labelled
}

// wantedLabels are those that the guest's pod asks a node for: the machine's and
// its class's, and what the engine derives from the processor.
func wantedLabels(guest *virtv1.VirtualMachineInstance, own *corev1.Node) map[string]string {
	out := maps.Clone(guest.Spec.NodeSelector)
	if out == nil {
		out = map[string]string{}
	}
	cpu := guest.Spec.Domain.CPU
	if cpu == nil {
		cpu = &virtv1.CPU{}
	}
	for _, feature := range cpu.Features {
		if feature.Policy == "" || feature.Policy == "require" {
			out[virtv1.CPUFeatureLabel+feature.Name] = "true"
		}
	}
	switch cpu.Model {
	case "", virtv1.CPUModeHostModel:
		maps.Copy(out, processorOf(own, false))
	case virtv1.CPUModeHostPassthrough:
		maps.Copy(out, processorOf(own, true))
	default:
		out[virtv1.CPUModelLabel+cpu.Model] = "true"
	}
	return out
}

// processorOf translates what the guest's node says of its own processor into what
// another node must offer. A guest that sees the processor itself has to find the
// very same one; the engine would not prevent a move to another, which such a guest
// may not survive.
func processorOf(node *corev1.Node, same bool) map[string]string {
	out := map[string]string{}
	if node == nil {
		return out
	}
	for key, value := range node.Labels {
		if model, found := strings.CutPrefix(key, virtv1.HostModelCPULabel); found {
			if same {
				out[key] = value
			} else {
				out[virtv1.SupportedHostModelMigrationCPU+model] = value
			}
		}
		if feature, found := strings.CutPrefix(key, virtv1.HostModelRequiredFeaturesLabel); found {
			out[virtv1.CPUFeatureLabel+feature] = value
		}
	}
	return out
}

func hasAll(have, want map[string]string) bool {
	for key, value := range want {
		if present, found := have[key]; !found || present != value {
			return false
		}
	}
	return true
}

// matchesAffinity looks at required node affinity only: terms are ORed, what is in
// a term is ANDed, and a term that cannot be read matches nothing, as for the
// scheduler.
func matchesAffinity(node *corev1.Node, affinity *corev1.Affinity) bool {
	if affinity == nil || affinity.NodeAffinity == nil {
		return true
	}
	required := affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil {
		return true
	}
	return slices.ContainsFunc(required.NodeSelectorTerms, func(term corev1.NodeSelectorTerm) bool {
		if len(term.MatchExpressions)+len(term.MatchFields) == 0 {
			return false
		}
		fields := map[string]string{"metadata.name": node.Name}
		return matchesEach(node.Labels, term.MatchExpressions) && matchesEach(fields, term.MatchFields)
	})
}

var operators = map[corev1.NodeSelectorOperator]selection.Operator{
	corev1.NodeSelectorOpIn:           selection.In,
	corev1.NodeSelectorOpNotIn:        selection.NotIn,
	corev1.NodeSelectorOpExists:       selection.Exists,
	corev1.NodeSelectorOpDoesNotExist: selection.DoesNotExist,
	corev1.NodeSelectorOpGt:           selection.GreaterThan,
	corev1.NodeSelectorOpLt:           selection.LessThan,
}

func matchesEach(have map[string]string, requirements []corev1.NodeSelectorRequirement) bool {
	for _, want := range requirements {
		requirement, err := labels.NewRequirement(want.Key, operators[want.Operator], want.Values)
		if err != nil || !requirement.Matches(labels.Set(have)) {
			return false
		}
	}
	return true
}

// toleratesTaints leaves out the taints by which Kubernetes itself marks a node's
// passing states, among them that it is cordoned.
func toleratesTaints(tolerations []corev1.Toleration, taints []corev1.Taint) bool {
	for _, taint := range LastingTaints(taints) {
		if !slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool { return tolerates(t, &taint) }) {
			return false
		}
	}
	return true
}

// LastingTaints are the taints that keep guests away from a node for good.
func LastingTaints(taints []corev1.Taint) []corev1.Taint {
	var out []corev1.Taint
	for _, taint := range taints {
		if taint.Effect != corev1.TaintEffectPreferNoSchedule && !strings.HasPrefix(taint.Key, "node.kubernetes.io/") {
			out = append(out, taint)
		}
	}
	return out
}

func tolerates(toleration corev1.Toleration, taint *corev1.Taint) bool {
	// A guest that is thrown off again after a while has no place there.
	if ptr.Deref(toleration.TolerationSeconds, -1) >= 0 && taint.Effect == corev1.TaintEffectNoExecute {
		return false
	}
	return toleration.ToleratesTaint(taint)
}
