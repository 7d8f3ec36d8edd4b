// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddresslease

import (
	"context"
	"fmt"

	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

type reconciler struct {
	client client.Client
	clock  clock.PassiveClock
}

func (r *reconciler) observe(ctx context.Context, lease *v1alpha2.VirtualMachineIPAddressLease) (Observed, error) {
	observed := Observed{Lease: lease, Now: r.clock.Now()}
	ref := lease.Spec.VirtualMachineIPAddressRef
	if ref == nil || ref.Name == "" {
		return observed, nil
	}
	claim := &v1alpha2.VirtualMachineIPAddress{}
	err := r.client.Get(ctx, client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}, claim)
	switch {
	case client.IgnoreNotFound(err) != nil:
		return Observed{}, fmt.Errorf("reading VirtualMachineIPAddress %s/%s: %w", ref.Namespace, ref.Name, err)
	case err == nil:
		observed.Claim = claim
	}
	return observed, nil
}

// plan turns a decision into a plan: the steps on the lease itself become
// actions.
func (r *reconciler) plan(observed Observed) shared.Plan[*v1alpha2.VirtualMachineIPAddressLease] {
	decided := decide(observed)
	lease := observed.Lease
	switch decided.step {
	case stepRelease:
		decided.Actions = []shared.Action{{Name: "releasing the lease", Run: func(ctx context.Context) error {
			return r.patchRelease(ctx, lease)
		}}}
	case stepDelete:
		decided.Actions = []shared.Action{{Name: "deleting the lease", Run: func(ctx context.Context) error {
			return r.deleteExpired(ctx, lease)
		}}}
	}
	return decided.Plan
}

// patchRelease takes the claim's name and uid off the lease; the namespace stays.
// The resource version guards against a claim that takes the lease over now.
func (r *reconciler) patchRelease(ctx context.Context, lease *v1alpha2.VirtualMachineIPAddressLease) error {
	released := lease.DeepCopy()
	released.Spec.VirtualMachineIPAddressRef.Name = ""
	delete(released.Labels, v1alpha2.LabelVirtualMachineIPAddressUID)
	patch := client.MergeFromWithOptions(lease, client.MergeFromWithOptimisticLock{})
	return client.IgnoreNotFound(r.client.Patch(ctx, released, patch, client.FieldOwner(shared.FieldManager)))
}

// deleteExpired deletes the lease unless it was changed since it was looked at:
// then somebody has taken it over.
func (r *reconciler) deleteExpired(ctx context.Context, lease *v1alpha2.VirtualMachineIPAddressLease) error {
	return client.IgnoreNotFound(r.client.Delete(ctx, lease, client.Preconditions{
		UID:             &lease.UID,
		ResourceVersion: ptr.To(lease.ResourceVersion),
	}))
}
