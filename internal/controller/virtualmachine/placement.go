// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"

	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// whyNodeSelectorWaits tells that the guest is where its new selector would not put
// it. The engine knows the selector at once and heeds it when the guest moves; it
// does not move it for that.
func whyNodeSelectorWaits(o Observed) string {
	return whyPlacementWaits(o, &corev1.PodSpec{NodeSelector: o.Machine.Spec.NodeSelector})
}

// whyAffinityWaits is the same for what is required of nodes. What is asked of the
// other pods of a node is only heeded by the scheduler.
func whyAffinityWaits(o Observed) string {
	affinity := o.Machine.Spec.Affinity
	if affinity == nil || affinity.NodeAffinity == nil {
		return ""
	}
	return whyPlacementWaits(o, &corev1.PodSpec{Affinity: &corev1.Affinity{NodeAffinity: affinity.NodeAffinity}})
}

// whyClassWaits tells that the class has come to want its machines elsewhere.
func whyClassWaits(o Observed) string {
	if o.Class == nil {
		return ""
	}
	selector := o.Class.Spec.NodeSelector
	if len(selector.MatchLabels) == 0 && len(selector.MatchExpressions) == 0 {
		return ""
	}
	placement := kubevirt.PlacementFor(&o.Machine.Spec, o.Class)
	if why := whyPlacementWaits(o, &corev1.PodSpec{NodeSelector: placement.NodeSelector, Affinity: placement.Affinity}); why == "" {
		return ""
	}
	return fmt.Sprintf("VirtualMachineClass %s does not select the node %s that the guest runs on: restart the machine or move it.",
		o.Class.Name, o.Guest.Status.NodeName)
}

func whyPlacementWaits(o Observed, spec *corev1.PodSpec) string {
	if o.Node == nil {
		return ""
	}
	matches, err := nodeaffinity.GetRequiredNodeAffinity(&corev1.Pod{Spec: *spec}).Match(o.Node)
	switch {
	case err != nil:
		return fmt.Sprintf("it cannot be told whether it selects the node %s: %s", o.Node.Name, err)
	case !matches:
		return fmt.Sprintf("the guest runs on %s, which it does not select; moving the machine does as well", o.Node.Name)
	}
	return ""
}
