// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"slices"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

const controllerName = "virtualmachineipaddress"

const (
	// indexLeasesByClaim finds leases by the namespace/name of their claim.
	indexLeasesByClaim = "ipaddress.claim"
	// indexMachinesByClaim finds machines by the name of the claim that they use
	// or want.
	indexMachinesByClaim = "ipaddress.machine"
	// indexPending finds the claims without an address.
	indexPending = "ipaddress.pending"
	pending      = "true"
)

// Options configure the controller.
type Options struct {
	// Pool is where addresses come from.
	Pool ipam.Pool
	// Clock is the real one unless a test sets it.
	Clock clock.PassiveClock
}

// Setup registers the controller with the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if err := addIndexes(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	r := &reconciler{client: mgr.GetClient(), direct: mgr.GetAPIReader(), pool: opts.Pool, clock: opts.Clock}
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		// Its own status and finalizer are no news to the controller.
		For(&v1alpha2.VirtualMachineIPAddress{}, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha2.VirtualMachineIPAddressLease{}, handler.EnqueueRequestsFromMapFunc(r.claimsOfLease)).
		Watches(&v1alpha2.VirtualMachine{}, handler.EnqueueRequestsFromMapFunc(claimsOfMachine)).
		Complete(&shared.Reconciler[*v1alpha2.VirtualMachineIPAddress, Observed]{
			Executor: shared.Executor{Client: mgr.GetClient(), Recorder: mgr.GetEventRecorderFor(shared.FieldManager)},
			New:      func() *v1alpha2.VirtualMachineIPAddress { return &v1alpha2.VirtualMachineIPAddress{} },
			Observe:  r.observe,
			Decide:   r.plan,
		})
}

func addIndexes(indexer client.FieldIndexer) error {
	ctx := context.Background()
	if err := indexer.IndexField(ctx, &v1alpha2.VirtualMachineIPAddressLease{}, indexLeasesByClaim, claimOfLease); err != nil {
		return err
	}
	if err := indexer.IndexField(ctx, &v1alpha2.VirtualMachine{}, indexMachinesByClaim, claimNames); err != nil {
		return err
	}
	return indexer.IndexField(ctx, &v1alpha2.VirtualMachineIPAddress{}, indexPending, func(object client.Object) []string {
		if claim, ok := object.(*v1alpha2.VirtualMachineIPAddress); ok && claim.Status.Phase == v1alpha2.IPAddressPending {
			return []string{pending}
		}
		return nil
	})
}

func claimOfLease(object client.Object) []string {
	lease, ok := object.(*v1alpha2.VirtualMachineIPAddressLease)
	if !ok || lease.Spec.VirtualMachineIPAddressRef == nil || lease.Spec.VirtualMachineIPAddressRef.Name == "" {
		return nil
	}
	ref := lease.Spec.VirtualMachineIPAddressRef
	return []string{ref.Namespace + "/" + ref.Name}
}

// claimNames lists the claims that a machine has something to do with: the one
// that it wants, and the one that its guest still has.
func claimNames(object client.Object) []string {
	machine, ok := object.(*v1alpha2.VirtualMachine)
	if !ok {
		return nil
	}
	wanted := machine.Spec.VirtualMachineIPAddressName
	if wanted == "" {
		wanted = ipam.ClaimName(machine.Name, machine.UID)
	}
	names := []string{wanted}
	if used := machine.Status.VirtualMachineIPAddressName; used != "" && used != wanted {
		names = append(names, used)
	}
	slices.Sort(names)
	return names
}

func claimsOfMachine(_ context.Context, object client.Object) []reconcile.Request {
	var requests []reconcile.Request
	for _, name := range claimNames(object) {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: object.GetNamespace(), Name: name}})
	}
	return requests
}

// claimsOfLease wakes the claim that a lease names and, because a lease that
// changes or goes may set its address free, the claims that wait for one.
func (r *reconciler) claimsOfLease(ctx context.Context, object client.Object) []reconcile.Request {
	var requests []reconcile.Request
	if lease, ok := object.(*v1alpha2.VirtualMachineIPAddressLease); ok {
		if ref := lease.Spec.VirtualMachineIPAddressRef; ref != nil && ref.Name != "" {
			requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: ref.Namespace, Name: ref.Name}})
		}
	}
	claims := &v1alpha2.VirtualMachineIPAddressList{}
	if err := r.client.List(ctx, claims, client.MatchingFields{indexPending: pending}); err != nil {
		// The cache answers; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "Looking up claims that wait for an address")
		return requests
	}
	for i := range claims.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&claims.Items[i])})
	}
	return requests
}
