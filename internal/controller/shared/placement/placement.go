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
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
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
		if node.Name != guest.Status.NodeName && CanRunGuests(node) && selects(wanted, guest.Spec.Affinity, node) && toleratesTaints(guest.Spec.Tolerations, node.Spec.Taints) {
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

// selects asks as the scheduler does, to which what cannot be read matches nothing.
func selects(wanted map[string]string, affinity *corev1.Affinity, node *corev1.Node) bool {
	pod := &corev1.Pod{Spec: corev1.PodSpec{NodeSelector: wanted, Affinity: affinity}}
	matches, err := nodeaffinity.GetRequiredNodeAffinity(pod).Match(node)
	return err == nil && matches
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
