// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// ghostMessage is what KubeVirt's agent on a node says of a guest whose name it still
// holds a record of, from a guest that has left the node by a migration.
const ghostMessage = "unable to create virt-launcher client connection: can not add ghost record when entry already exists with differing UID"

// Haunt lets the node of a machine's next guest hold such a record. It drops the record
// when it cleans up after that guest.
func (e *Engine) Haunt(machine string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.haunted == nil {
		e.haunted = map[client.ObjectKey]bool{}
	}
	e.haunted[client.ObjectKey{Namespace: e.namespace, Name: machine}] = true
}

func (e *Engine) isHaunted(guest *virtv1.VirtualMachineInstance) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.haunted[client.ObjectKeyFromObject(guest)]
}

// layGhost drops the record if the guest is one that the node has seen and refused.
func (e *Engine) layGhost(guest *virtv1.VirtualMachineInstance) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if guest.Status.Phase == virtv1.Scheduled {
		delete(e.haunted, client.ObjectKeyFromObject(guest))
	}
}

// refuse tells, once, why the guest is not started.
func (e *Engine) refuse(ctx context.Context, guest *virtv1.VirtualMachineInstance) error {
	for _, condition := range guest.Status.Conditions {
		if condition.Type == virtv1.VirtualMachineInstanceSynchronized {
			return nil
		}
	}
	guest.Status.Conditions = append(guest.Status.Conditions, virtv1.VirtualMachineInstanceCondition{
		Type: virtv1.VirtualMachineInstanceSynchronized, Status: corev1.ConditionFalse,
		Reason: "Synchronizing with the Domain failed.", Message: ghostMessage, LastTransitionTime: metav1.Now(),
	})
	return e.client.Status().Update(ctx, guest)
}
