// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// observer reads what a decision needs.
type observer struct {
	reader client.Reader
	clock  clock.PassiveClock
	// emulated is the module's setting softwareEmulation.
	emulated bool
}

func (r *observer) observe(ctx context.Context, class *v1alpha2.VirtualMachineClass) (Observed, error) {
	o := Observed{Class: class, Now: r.clock.Now(), Emulated: r.emulated}
	nodes := &corev1.NodeList{}
	if err := r.reader.List(ctx, nodes); err != nil {
		return o, fmt.Errorf("listing the nodes: %w", err)
	}
	for i := range nodes.Items {
		node := &nodes.Items[i]
		o.Nodes = append(o.Nodes, Node{Name: node.Name, Labels: node.Labels, Capacity: node.Status.Capacity, Allocatable: node.Status.Allocatable})
	}
	slices.SortFunc(o.Nodes, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	machines := &v1alpha2.VirtualMachineList{}
	// Only names are taken out of the cached machines.
	options := []client.ListOption{client.MatchingFields{indexMachineClass: class.Name}, client.UnsafeDisableDeepCopy}
	if class.DeletionTimestamp == nil {
		// That there is one is all that matters until the class is to go; there may be
		// thousands.
		options = append(options, client.Limit(1))
	}
	if err := r.reader.List(ctx, machines, options...); err != nil {
		return o, fmt.Errorf("listing the machines that name the class: %w", err)
	}
	for i := range machines.Items {
		o.Machines = append(o.Machines, client.ObjectKeyFromObject(&machines.Items[i]).String())
	}
	slices.Sort(o.Machines)
	return o, nil
}
