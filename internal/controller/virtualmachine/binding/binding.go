// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package binding chooses how guests are connected to the cluster's network, from what
// the nodes' agents say of their kernels.
package binding

import (
	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// conditionBridgeBinding on the pod of a node's agent tells whether the node's kernel can
// do what the bridge binding needs.
const conditionBridgeBinding corev1.PodConditionType = "virtualization.deckhouse.io/BridgeBinding"

// Verdict is how new guests are connected.
type Verdict struct {
	Binding kubevirt.Binding
	// Complete tells that every node has reported, so that the verdict will not
	// change by waiting.
	Complete bool
}

// Judge chooses bridge when every node that guests may run on can do it,
// and masquerade otherwise: a guest must be able to move to any of them. A node
// counts when KubeVirt's agent has been there, whether or not it is there now.
func Judge(nodes []corev1.Node, routers []corev1.Pod) Verdict {
	reports := bridgeReports(routers)
	verdict := Verdict{Binding: kubevirt.BindingBridge, Complete: true}
	var counted int
	for i := range nodes {
		if !canRunGuests(&nodes[i]) {
			continue
		}
		counted++
		switch able, reported := reports[nodes[i].Name]; {
		case !reported:
			verdict.Complete = false
		case !able:
			// One node that cannot settles it, whatever the others will say.
			return Verdict{Binding: kubevirt.BindingMasquerade, Complete: true}
		}
	}
	if counted == 0 || !verdict.Complete {
		return Verdict{Binding: kubevirt.BindingMasquerade}
	}
	return verdict
}

func canRunGuests(node *corev1.Node) bool {
	_, labelled := node.Labels[virtv1.NodeSchedulable]
	return labelled
}

// bridgeReports reads what each node's agent says. While a pod is replaced there
// may be two on a node; the newer one counts.
func bridgeReports(routers []corev1.Pod) map[string]bool {
	reports := map[string]bool{}
	newest := map[string]*corev1.Pod{}
	for i := range routers {
		pod := &routers[i]
		able, reported := Report(pod)
		if !reported || pod.Spec.NodeName == "" {
			continue
		}
		if other := newest[pod.Spec.NodeName]; other != nil && pod.CreationTimestamp.Before(&other.CreationTimestamp) {
			continue
		}
		newest[pod.Spec.NodeName] = pod
		reports[pod.Spec.NodeName] = able
	}
	return reports
}

// Report is what a pod of a node's agent says: whether guests there can have the bridge
// binding, if it knows.
func Report(pod *corev1.Pod) (able, reported bool) {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == conditionBridgeBinding && condition.Status != corev1.ConditionUnknown {
			return condition.Status == corev1.ConditionTrue, true
		}
	}
	return false, false
}
