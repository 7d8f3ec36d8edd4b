// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"fmt"
	"sync"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"k8s.io/client-go/util/workqueue"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// addressBook is the allocator with what it has to know before it is asked.
type addressBook struct {
	*ipam.Allocator

	mu      sync.Mutex
	learned bool
}

// learn reads all leases from the API server, once. The cache may have started from
// an old state, without the last leases that the controller before this one made; a
// claim of such a lease would get a second one.
func (b *addressBook) learn(ctx context.Context, direct client.Reader) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.learned {
		return nil
	}
	leases := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	if err := direct.List(ctx, leases); err != nil {
		return fmt.Errorf("listing leases: %w", err)
	}
	for i := range leases.Items {
		if address, err := ipam.ParseLeaseName(leases.Items[i].Name); err == nil {
			b.Promise(address, holderOf(&leases.Items[i]))
		}
	}
	b.learned = true
	return nil
}

// note takes in what the watch tells of a lease. A name that is no address is none
// of ours: such a lease locks nothing.
func (b *addressBook) note(lease *v1alpha2.VirtualMachineIPAddressLease) {
	if address, err := ipam.ParseLeaseName(lease.Name); err == nil {
		b.Observe(address, holderOf(lease))
	}
}

// noteGone takes in that a lease was deleted. One that was held was deleted by
// somebody's hand, while a guest has the address: its claim gets some time to lease it
// again before another one gets it.
func (b *addressBook) noteGone(lease *v1alpha2.VirtualMachineIPAddressLease) {
	address, err := ipam.ParseLeaseName(lease.Name)
	if err != nil {
		return
	}
	b.Forget(address)
	if holder := holderOf(lease); holder.Name != "" {
		b.Promise(address, holder)
	}
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// followLeases keeps the allocator up to date and wakes the claims that an event
// matters to, in this order: a claim that is woken because an address is free finds
// it free.
func (r *reconciler) followLeases() handler.EventHandler {
	return handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) {
			lease := e.Object.(*v1alpha2.VirtualMachineIPAddressLease)
			r.addresses.note(lease)
			wake(q, claimsOf(lease))
		},
		UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
			before, after := e.ObjectOld.(*v1alpha2.VirtualMachineIPAddressLease), e.ObjectNew.(*v1alpha2.VirtualMachineIPAddressLease)
			r.addresses.note(after)
			wake(q, claimsOf(before))
			wake(q, claimsOf(after))
			if holder := holderOf(after); holder.Name == "" && holder != holderOf(before) {
				wake(q, r.waiting(ctx, client.InNamespace(holder.Namespace)))
			}
		},
		DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) {
			lease := e.Object.(*v1alpha2.VirtualMachineIPAddressLease)
			r.addresses.noteGone(lease)
			wake(q, claimsOf(lease))
			wake(q, r.waiting(ctx))
		},
	}
}

func wake(q queue, requests []reconcile.Request) {
	for _, request := range requests {
		q.Add(request)
	}
}

// claimsOf is the claim that a lease names, if any.
func claimsOf(lease *v1alpha2.VirtualMachineIPAddressLease) []reconcile.Request {
	holder := holderOf(lease)
	if holder.Name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: holder.Namespace, Name: holder.Name}}}
}

// waiting lists the claims without an address, for which one that gets free is news.
func (r *reconciler) waiting(ctx context.Context, where ...client.ListOption) []reconcile.Request {
	claims := &v1alpha2.VirtualMachineIPAddressList{}
	if err := r.client.List(ctx, claims, append(where, client.MatchingFields{indexPending: pending})...); err != nil {
		// The cache answers; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "Looking up claims that wait for an address")
		return nil
	}
	return shared.Requests(claims)
}
