// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/internal/kubevirt"
)

const (
	// conditionBridgeBinding on the pod of a node's agent tells whether the node's
	// kernel can do what the bridge binding needs.
	conditionBridgeBinding corev1.PodConditionType = "virtualization.deckhouse.io/BridgeBinding"
	// labelApp and routerApp find those pods.
	labelApp  = "app"
	routerApp = "vm-router"
)

// BindingVerdict is how new guests are connected.
type BindingVerdict struct {
	Binding kubevirt.Binding
	// Complete tells that every node has reported, so that the verdict will not
	// change by waiting.
	Complete bool
}

// judgeBinding chooses bridge when every node that guests may run on can do it,
// and masquerade otherwise: a guest must be able to move to any of them. A node
// counts when KubeVirt's agent has been there, whether or not it is there now.
func judgeBinding(nodes []corev1.Node, routers []corev1.Pod) BindingVerdict {
	reports := bridgeReports(routers)
	verdict := BindingVerdict{Binding: kubevirt.BindingBridge, Complete: true}
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
			return BindingVerdict{Binding: kubevirt.BindingMasquerade, Complete: true}
		}
	}
	if counted == 0 || !verdict.Complete {
		return BindingVerdict{Binding: kubevirt.BindingMasquerade}
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
		able, reported := bridgeReport(pod)
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

func bridgeReport(pod *corev1.Pod) (able, reported bool) {
	for _, condition := range pod.Status.Conditions {
		if condition.Type == conditionBridgeBinding && condition.Status != corev1.ConditionUnknown {
			return condition.Status == corev1.ConditionTrue, true
		}
	}
	return false, false
}
