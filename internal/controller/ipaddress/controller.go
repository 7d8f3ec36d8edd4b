// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
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
	// Concurrency is how many claims are reconciled at once; 0 means 4.
	Concurrency int
	// Metrics takes the collector of the pool's usage; nil leaves it out.
	Metrics prometheus.Registerer
}

// defaultConcurrency lets a burst of machines wait for the API server, not for each
// other.
const defaultConcurrency = 4

// Setup registers the controller with the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.Concurrency == 0 {
		opts.Concurrency = defaultConcurrency
	}
	if err := addIndexes(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	addresses := &addressBook{Allocator: ipam.NewAllocator(opts.Pool, opts.Clock)}
	if opts.Metrics != nil {
		if err := mgr.Add(&usageMetrics{addresses: addresses, direct: mgr.GetAPIReader(), registry: opts.Metrics}); err != nil {
			return err
		}
	}
	r := &reconciler{client: mgr.GetClient(), direct: mgr.GetAPIReader(), addresses: addresses, clock: opts.Clock}
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha2.VirtualMachineIPAddress{}, builder.WithPredicates(predicate.Or(predicate.GenerationChangedPredicate{}, startsToWait()))).
		WithOptions(controller.Options{MaxConcurrentReconciles: opts.Concurrency}).
		Watches(&v1alpha2.VirtualMachineIPAddressLease{}, r.followLeases()).
		Watches(&v1alpha2.VirtualMachine{}, handler.EnqueueRequestsFromMapFunc(claimsOfMachine)).
		Complete(&shared.Reconciler[*v1alpha2.VirtualMachineIPAddress, Observed]{
			Executor: shared.NewExecutor(mgr, shared.FieldManager),
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
		if isPending(object) {
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

// startsToWait lets pass of a claim's own status, which otherwise is no news, that it
// has no address. An address that got free before the cache knew that the claim waits
// woke everybody else.
func startsToWait() predicate.Predicate {
	return predicate.Funcs{
		CreateFunc:  func(event.CreateEvent) bool { return false },
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
		UpdateFunc:  func(e event.UpdateEvent) bool { return isPending(e.ObjectNew) && !isPending(e.ObjectOld) },
	}
}

func isPending(object client.Object) bool {
	claim, ok := object.(*v1alpha2.VirtualMachineIPAddress)
	return ok && claim.Status.Phase == v1alpha2.IPAddressPending
}
