// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/retry"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Evict marks a guest with the node that it has to leave, as KubeVirt does when it
// refuses the eviction of the guest's pod.
func (e *Engine) Evict(ctx context.Context, key client.ObjectKey) error {
	return retry.RetryOnConflict(retry.DefaultBackoff, func() error {
		guest := &virtv1.VirtualMachineInstance{}
		if err := e.client.Get(ctx, key, guest); err != nil {
			return err
		}
		unmark(guest)
		guest.Status.EvacuationNodeName = guest.Status.NodeName
		guest.Status.Conditions = append(guest.Status.Conditions, virtv1.VirtualMachineInstanceCondition{
			Type: virtv1.VirtualMachineInstanceEvictionRequested, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now(),
		})
		return e.client.Status().Update(ctx, guest)
	})
}

// TakeBack lets a guest stay, as KubeVirt's subresource does. It leaves alone a mark of
// another node than the caller has seen.
func (e *Engine) TakeBack(ctx context.Context, seen *virtv1.VirtualMachineInstance) error {
	guest := &virtv1.VirtualMachineInstance{}
	if err := e.client.Get(ctx, client.ObjectKeyFromObject(seen), guest); err != nil {
		return client.IgnoreNotFound(err)
	}
	if guest.Status.EvacuationNodeName == "" || guest.Status.EvacuationNodeName != seen.Status.EvacuationNodeName {
		return nil
	}
	unmark(guest)
	return e.client.Status().Update(ctx, guest)
}

// unmark forgets that the guest has to leave its node, which it also does when it has
// left.
func unmark(guest *virtv1.VirtualMachineInstance) {
	guest.Status.EvacuationNodeName = ""
	guest.Status.Conditions = slices.DeleteFunc(guest.Status.Conditions, func(c virtv1.VirtualMachineInstanceCondition) bool {
		return c.Type == virtv1.VirtualMachineInstanceEvictionRequested
	})
}
