// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// nodeSelector joins the labels that machine and class ask for. The class wins:
// it is the administrator's word on where its machines may run.
func nodeSelector(machine, class map[string]string) map[string]string {
	if len(machine) == 0 && len(class) == 0 {
		return nil
	}
	joined := maps.Clone(machine)
	if joined == nil {
		joined = map[string]string{}
	}
	maps.Copy(joined, class)
	return joined
}

func tolerations(machine, class []corev1.Toleration) []corev1.Toleration {
	return slices.Concat(machine, class)
}

// affinity translates the machine's affinity and adds the class's expressions to
// each of its node terms. Terms are alternatives, so that an expression added as
// one more term would let the machine escape its class.
func affinity(machine *v1alpha2.Affinity, class []corev1.NodeSelectorRequirement) *corev1.Affinity {
	out := &corev1.Affinity{}
	if machine != nil {
		out.NodeAffinity = machine.NodeAffinity.DeepCopy()
		out.PodAffinity = podAffinity(machine.VirtualMachineAndPodAffinity)
		out.PodAntiAffinity = podAntiAffinity(machine.VirtualMachineAndPodAntiAffinity)
	}
	if len(class) > 0 {
		out.NodeAffinity = restrict(out.NodeAffinity, class)
	}
	if *out == (corev1.Affinity{}) {
		return nil
	}
	return out
}

func restrict(node *corev1.NodeAffinity, class []corev1.NodeSelectorRequirement) *corev1.NodeAffinity {
	if node == nil {
		node = &corev1.NodeAffinity{}
	}
	required := node.RequiredDuringSchedulingIgnoredDuringExecution
	if required == nil || len(required.NodeSelectorTerms) == 0 {
		required = &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{}}}
	}
	for i := range required.NodeSelectorTerms {
		term := &required.NodeSelectorTerms[i]
		for _, requirement := range class {
			term.MatchExpressions = append(term.MatchExpressions, *requirement.DeepCopy())
		}
	}
	node.RequiredDuringSchedulingIgnoredDuringExecution = required
	return node
}

func podAffinity(in *v1alpha2.VirtualMachineAndPodAffinity) *corev1.PodAffinity {
	if in == nil {
		return nil
	}
	return &corev1.PodAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution:  podTerms(in.RequiredDuringSchedulingIgnoredDuringExecution),
		PreferredDuringSchedulingIgnoredDuringExecution: weightedPodTerms(in.PreferredDuringSchedulingIgnoredDuringExecution),
	}
}

func podAntiAffinity(in *v1alpha2.VirtualMachineAndPodAntiAffinity) *corev1.PodAntiAffinity {
	if in == nil {
		return nil
	}
	return &corev1.PodAntiAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution:  podTerms(in.RequiredDuringSchedulingIgnoredDuringExecution),
		PreferredDuringSchedulingIgnoredDuringExecution: weightedPodTerms(in.PreferredDuringSchedulingIgnoredDuringExecution),
	}
}

func podTerms(in []v1alpha2.VirtualMachineAndPodAffinityTerm) []corev1.PodAffinityTerm {
	var out []corev1.PodAffinityTerm
	for i := range in {
		out = append(out, podTerm(&in[i]))
	}
	return out
}

func weightedPodTerms(in []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm) []corev1.WeightedPodAffinityTerm {
	var out []corev1.WeightedPodAffinityTerm
	for i := range in {
		out = append(out, corev1.WeightedPodAffinityTerm{
			Weight:          in[i].Weight,
			PodAffinityTerm: podTerm(&in[i].VirtualMachineAndPodAffinityTerm),
		})
	}
	return out
}

func podTerm(in *v1alpha2.VirtualMachineAndPodAffinityTerm) corev1.PodAffinityTerm {
	return corev1.PodAffinityTerm{
		LabelSelector:     in.LabelSelector.DeepCopy(),
		Namespaces:        slices.Clone(in.Namespaces),
		TopologyKey:       in.TopologyKey,
		NamespaceSelector: in.NamespaceSelector.DeepCopy(),
		MatchLabelKeys:    slices.Clone(in.MatchLabelKeys),
		MismatchLabelKeys: slices.Clone(in.MismatchLabelKeys),
	}
}

func spreadConstraints(in []corev1.TopologySpreadConstraint) []corev1.TopologySpreadConstraint {
	var out []corev1.TopologySpreadConstraint
	for i := range in {
		out = append(out, *in[i].DeepCopy())
	}
	return out
}
