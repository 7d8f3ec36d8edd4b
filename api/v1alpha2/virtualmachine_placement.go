// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Affinity says which nodes, machines and pods a machine wants to be near to or far from. It is the affinity of a pod
// with other names for the parts that look at pods, because they look at machines as well.
type Affinity struct {
	// nodeAffinity says which nodes the machine may run on and which it prefers.
	// +optional
	NodeAffinity *corev1.NodeAffinity `json:"nodeAffinity,omitempty"`

	// virtualMachineAndPodAffinity says which machines and pods the machine wants to be near to.
	// +optional
	VirtualMachineAndPodAffinity *VirtualMachineAndPodAffinity `json:"virtualMachineAndPodAffinity,omitempty"`

	// virtualMachineAndPodAntiAffinity says which machines and pods the machine wants to be far from.
	// +optional
	VirtualMachineAndPodAntiAffinity *VirtualMachineAndPodAntiAffinity `json:"virtualMachineAndPodAntiAffinity,omitempty"`
}

// VirtualMachineAndPodAffinity says which machines and pods a machine wants to be near to.
type VirtualMachineAndPodAffinity struct {
	// requiredDuringSchedulingIgnoredDuringExecution lists terms that must all hold when the machine is placed; later
	// changes of labels do not move it.
	// +optional
	// +listType=atomic
	RequiredDuringSchedulingIgnoredDuringExecution []VirtualMachineAndPodAffinityTerm `json:"requiredDuringSchedulingIgnoredDuringExecution,omitempty"`

	// preferredDuringSchedulingIgnoredDuringExecution lists terms that are wished for; the node with the highest sum of
	// weights is preferred.
	// +optional
	// +listType=atomic
	PreferredDuringSchedulingIgnoredDuringExecution []WeightedVirtualMachineAndPodAffinityTerm `json:"preferredDuringSchedulingIgnoredDuringExecution,omitempty"`
}

// VirtualMachineAndPodAntiAffinity says which machines and pods a machine wants to be far from.
type VirtualMachineAndPodAntiAffinity struct {
	// requiredDuringSchedulingIgnoredDuringExecution lists terms none of which may hold when the machine is placed;
	// later changes of labels do not move it.
	// +optional
	// +listType=atomic
	RequiredDuringSchedulingIgnoredDuringExecution []VirtualMachineAndPodAffinityTerm `json:"requiredDuringSchedulingIgnoredDuringExecution,omitempty"`

	// preferredDuringSchedulingIgnoredDuringExecution lists terms that are to be avoided; the node with the lowest sum
	// of weights is preferred.
	// +optional
	// +listType=atomic
	PreferredDuringSchedulingIgnoredDuringExecution []WeightedVirtualMachineAndPodAffinityTerm `json:"preferredDuringSchedulingIgnoredDuringExecution,omitempty"`
}

// WeightedVirtualMachineAndPodAffinityTerm is a term and how much it counts.
type WeightedVirtualMachineAndPodAffinityTerm struct {
	// weight is how much the term counts, from 1 to 100.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// virtualMachineAndPodAffinityTerm is the term.
	// +required
	VirtualMachineAndPodAffinityTerm VirtualMachineAndPodAffinityTerm `json:"virtualMachineAndPodAffinityTerm"`
}

// VirtualMachineAndPodAffinityTerm selects machines and pods and says what counts as one place.
type VirtualMachineAndPodAffinityTerm struct {
	// labelSelector selects machines and pods by their labels; without it nothing is selected.
	// +optional
	LabelSelector *metav1.LabelSelector `json:"labelSelector,omitempty"`

	// namespaces lists the namespaces to look into; without it and without namespaceSelector only the machine's own.
	// +optional
	// +listType=atomic
	Namespaces []string `json:"namespaces,omitempty"`

	// namespaceSelector selects the namespaces to look into by their labels; an empty selector is every namespace.
	// +optional
	NamespaceSelector *metav1.LabelSelector `json:"namespaceSelector,omitempty"`

	// topologyKey is the node label whose equal values make nodes one place, for example kubernetes.io/hostname.
	// +required
	TopologyKey string `json:"topologyKey"`

	// matchLabelKeys lists label keys; only those whose values equal the machine's own are counted.
	// +optional
	// +listType=atomic
	MatchLabelKeys []string `json:"matchLabelKeys,omitempty"`

	// mismatchLabelKeys lists label keys; only those whose values differ from the machine's own are counted.
	// +optional
	// +listType=atomic
	MismatchLabelKeys []string `json:"mismatchLabelKeys,omitempty"`
}
