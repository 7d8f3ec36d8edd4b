// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// ConditionBridgeBinding is set on the router's own pod. True says that the node's
	// kernel can do KubeVirt's bridge binding on the pod network; the controller reads
	// it to choose how guests are connected. A condition of the own pod needs no right
	// on nodes.
	ConditionBridgeBinding corev1.PodConditionType = "virtualization.deckhouse.io/BridgeBinding"
	// ConditionRoutes is set on the router's own pod. Its reason is the Network that was
	// found, or ReasonUnrouted when a machine or a range has no route; its message names
	// them.
	ConditionRoutes corev1.PodConditionType = "virtualization.deckhouse.io/Routes"
	// ReasonUnrouted says that something has no route on this node.
	ReasonUnrouted = "Unrouted"
)

// Network is how machines on other nodes are reached.
type Network string

const (
	// NetworkCilium goes the way that Cilium made to the other node's pods.
	NetworkCilium Network = "Cilium"
	// NetworkNodeAddresses goes to the other node itself.
	NetworkNodeAddresses Network = "NodeAddresses"
)

// networks explains each of them in the condition's message.
var networks = map[Network]string{
	NetworkCilium:        "machines on other nodes are reached through the network of Cilium, those on this node through " + ciliumDevice,
	NetworkNodeAddresses: "machines on other nodes are reached through the addresses of their nodes, those on this node by the routes of the network plugin",
}

// remedies tell what to do about a machine without a route.
var remedies = map[Reason]string{
	ReasonNoNodeAddress:   "its node has no address of this family",
	ReasonNodeUnreachable: "this node has no route to its node",
	ReasonNodeNotAdjacent: "its node is behind a router, which does not know the address: put the nodes into one network, or use Cilium",
	ReasonAddressTaken:    "an older machine has the same address",
	ReasonRangeRefused:    "its range holds addresses of nodes or pods: change virtualMachineCIDRs",
	ReasonKernelRefused:   "the kernel refused the route; the log of this Pod says why",
}

// shownProblems bounds the message.
const shownProblems = 5

// routesCondition sums a comparison up. It has no counts of what is well, so that it
// is not written whenever a machine comes or goes.
func routesCondition(network Network, want Wanted) corev1.PodCondition {
	var problems []string
	for _, refused := range want.Refused {
		problems = append(problems, fmt.Sprintf("the range %s is not routed, because it holds %s of a node or its pods: change virtualMachineCIDRs", refused.Range, refused.Holds))
	}
	for _, unrouted := range want.Unrouted {
		problems = append(problems, strings.TrimSpace(fmt.Sprintf("%s %s", unrouted.Machine.Address, unrouted.Machine.Name))+": "+remedies[unrouted.Reason])
	}
	if len(problems) == 0 {
		return corev1.PodCondition{Type: ConditionRoutes, Status: corev1.ConditionTrue, Reason: string(network), Message: networks[network]}
	}
	if more := len(problems) - shownProblems; more > 0 {
		problems = append(problems[:shownProblems], fmt.Sprintf("and %d more", more))
	}
	return corev1.PodCondition{Type: ConditionRoutes, Status: corev1.ConditionFalse, Reason: ReasonUnrouted, Message: strings.Join(problems, "; ")}
}

// bindingCondition tells whether KubeVirt's bridge binding is possible.
func bindingCondition(dummyDevices bool) corev1.PodCondition {
	if !dummyDevices {
		return corev1.PodCondition{
			Type: ConditionBridgeBinding, Status: corev1.ConditionFalse, Reason: "NoDummyDevices",
			Message: "the kernel has no dummy devices (CONFIG_DUMMY), so machines are connected by masquerade",
		}
	}
	return corev1.PodCondition{
		Type: ConditionBridgeBinding, Status: corev1.ConditionTrue, Reason: "DummyDevices",
		Message: "the kernel makes dummy devices",
	}
}

// Reporter writes conditions to the router's own pod.
type Reporter struct {
	Client client.Client
	Clock  clock.PassiveClock
	// Pod is the own one.
	Pod types.NamespacedName

	last map[corev1.PodConditionType]corev1.PodCondition
}

// Report writes a condition when it differs from what was written last. It is not
// for use by several goroutines.
func (r *Reporter) Report(ctx context.Context, condition corev1.PodCondition) error {
	last, known := r.last[condition.Type]
	if known && condition == last {
		return nil
	}
	wanted := condition
	condition.LastTransitionTime = metav1.NewTime(r.Clock.Now()).Rfc3339Copy()
	patch, err := json.Marshal(map[string]any{"status": map[string]any{"conditions": []corev1.PodCondition{condition}}})
	if err != nil {
		return err
	}
	object := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: r.Pod.Namespace, Name: r.Pod.Name}}
	if err := r.Client.Status().Patch(ctx, object, client.RawPatch(types.StrategicMergePatchType, patch)); err != nil {
		return fmt.Errorf("reporting on the own pod %s: %w", r.Pod, err)
	}
	if r.last == nil {
		r.last = map[corev1.PodConditionType]corev1.PodCondition{}
	}
	r.last[condition.Type] = wanted
	return nil
}

// prober tries what the kernel can do.
type prober interface {
	SupportsDummy() (bool, error)
}

// ReportBinding writes ConditionBridgeBinding.
func (r *Reporter) ReportBinding(ctx context.Context, kernel prober) error {
	supported, err := kernel.SupportsDummy()
	if err != nil {
		return err
	}
	return r.Report(ctx, bindingCondition(supported))
}
