// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/machineclass"
)

var (
	nodeVirtualization = newMetric("node_virtualization_supported",
		"1 if a node can run guests: by its processor, or because guests are emulated; 0 if it cannot; nothing before the engine has looked.", []string{labelNode})
	nodeKernel  = newMetric("node_kernel_supported", "1 if the kernel of a node is new enough for guests, else 0.", []string{labelNode})
	classUnable = newMetric("virtualmachineclass_unsupported_nodes",
		"How many nodes a VirtualMachineClass selects although their processors do not help guests.", clusterwide)
)

// support tells which nodes can run guests, and which classes choose those that can't.
func support(ctx context.Context, reader client.Reader, out sink, emulated bool) error {
	var list corev1.NodeList
	var unable []map[string]string
	err := each(ctx, reader, &list, &list.Items, func(node *corev1.Node) {
		if _, labelled := node.Labels[machineclass.LabelSchedulable]; !labelled {
			return
		}
		out.put(nodeKernel, number(machineclass.KernelSupported(node.Status.NodeInfo.KernelVersion)), node.Name)
		helps, looked := machineclass.KVM(node.Status.Capacity, node.Status.Allocatable)
		if looked || emulated {
			out.put(nodeVirtualization, number(helps || emulated), node.Name)
		}
		if looked && !helps && !emulated {
			unable = append(unable, node.Labels)
		}
	})
	if err != nil {
		return err
	}
	var classes v1alpha2.VirtualMachineClassList
	return each(ctx, reader, &classes, &classes.Items, func(class *v1alpha2.VirtualMachineClass) {
		// A selector that can't be read selects nothing, and the class says so itself.
		selector, err := machineclass.NodeSelector(class.Spec.NodeSelector)
		if err != nil {
			return
		}
		count := 0
		for _, each := range unable {
			if selector.Matches(labels.Set(each)) {
				count++
			}
		}
		out.put(classUnable, float64(count), class.Name)
	})
}
