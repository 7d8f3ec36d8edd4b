// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// collectGarbage deletes what was left by machines that are gone.
func (e *Engine) collectGarbage(ctx context.Context) error {
	claims := &v1alpha2.VirtualMachineIPAddressList{}
	if err := e.client.List(ctx, claims, client.InNamespace(e.namespace)); err != nil {
		return err
	}
	for i := range claims.Items {
		if err := e.collect(ctx, &claims.Items[i]); err != nil {
			return err
		}
	}
	machines := &virtv1.VirtualMachineList{}
	if err := e.client.List(ctx, machines, client.InNamespace(e.namespace)); err != nil {
		return err
	}
	for i := range machines.Items {
		if err := e.collect(ctx, &machines.Items[i]); err != nil {
			return err
		}
	}
	return nil
}

func (e *Engine) collect(ctx context.Context, dependent client.Object) error {
	owner := metav1.GetControllerOf(dependent)
	if owner == nil || owner.Kind != v1alpha2.VirtualMachineKind || dependent.GetDeletionTimestamp() != nil {
		return nil
	}
	machine := &v1alpha2.VirtualMachine{}
	err := e.client.Get(ctx, client.ObjectKey{Namespace: dependent.GetNamespace(), Name: owner.Name}, machine)
	switch {
	case err == nil && machine.UID == owner.UID:
		return nil
	case err != nil && !apierrors.IsNotFound(err):
		return err
	}
	return client.IgnoreNotFound(e.client.Delete(ctx, dependent))
}
