// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	virtv1 "kubevirt.io/api/core/v1"
)

// place is the node that a guest is on; empty when it is on none.
//
// KubeVirt sets status.nodeName when the target's agent has seen the end of the
// migration. That the guest runs there it notes before, in
// targetNodeDomainReadyTimestamp, which is meant for those who move addresses; the
// target's pod is there long before either.
func place(guest *virtv1.VirtualMachineInstance) string {
	if guest.IsFinal() {
		return ""
	}
	state := guest.Status.MigrationState
	if state != nil && !state.Failed && state.TargetNodeDomainReadyTimestamp != nil &&
		state.TargetNode != "" && state.SourceNode == guest.Status.NodeName {
		return state.TargetNode
	}
	return guest.Status.NodeName
}

// moving tells whether a live migration is under way: from when the target's pod
// stands ready until the guest runs there, or the end is known.
func moving(guest *virtv1.VirtualMachineInstance) bool {
	state := guest.Status.MigrationState
	return !guest.IsFinal() && state != nil && state.TargetNode != "" && state.TargetNode != state.SourceNode &&
		state.TargetNodeDomainReadyTimestamp == nil && state.EndTimestamp == nil && !state.Completed && !state.Failed
}

// nodeAddress is the first internal address of a family.
func nodeAddress(node *corev1.Node, ipv6 bool) netip.Addr {
	for _, entry := range node.Status.Addresses {
		if entry.Type != corev1.NodeInternalIP {
			continue
		}
		if address, err := netip.ParseAddr(entry.Address); err == nil && address.Is6() == ipv6 {
			return address
		}
	}
	return netip.Addr{}
}

// reserved are the addresses that a node and its pods use.
func reserved(node *corev1.Node) []netip.Prefix {
	var out []netip.Prefix
	for _, entry := range node.Status.Addresses {
		if address, err := netip.ParseAddr(entry.Address); err == nil {
			out = append(out, single(address))
		}
	}
	for _, text := range node.Spec.PodCIDRs {
		if prefix, err := netip.ParsePrefix(text); err == nil {
			out = append(out, prefix)
		}
	}
	return out
}

// ciliumAddress is the address of a node inside Cilium's own network.
func ciliumAddress(node *unstructured.Unstructured, ipv6 bool) netip.Addr {
	entries, _, _ := unstructured.NestedSlice(node.Object, "spec", "addresses")
	for _, entry := range entries {
		fields, ok := entry.(map[string]any)
		if !ok || fields["type"] != "CiliumInternalIP" {
			continue
		}
		text, _ := fields["ip"].(string)
		if address, err := netip.ParseAddr(text); err == nil && address.Is6() == ipv6 {
			return address
		}
	}
	return netip.Addr{}
}
