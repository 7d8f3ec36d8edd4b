// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddresslease

import (
	"context"

	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const controllerName = "virtualmachineipaddresslease"

// indexByClaim finds leases by the namespace/name of the claim they refer to.
const indexByClaim = "ipaddresslease.claim"

// Options configure the controller.
type Options struct {
	// Clock is the real one unless a test sets it.
	Clock clock.PassiveClock
}

// Setup registers the controller with the manager.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha2.VirtualMachineIPAddressLease{}, indexByClaim, claimKey); err != nil {
		return err
	}
	r := &reconciler{client: mgr.GetClient(), clock: opts.Clock}
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha2.VirtualMachineIPAddressLease{}).
		Watches(&v1alpha2.VirtualMachineIPAddress{}, handler.EnqueueRequestsFromMapFunc(r.leasesOfClaim),
			// Only that a claim came or went matters to its lease.
			builder.WithPredicates(predicate.Funcs{
				UpdateFunc: func(event.UpdateEvent) bool { return false },
			})).
		Complete(&shared.Reconciler[*v1alpha2.VirtualMachineIPAddressLease, Observed]{
			Executor: shared.NewExecutor(mgr, shared.FieldManager),
			New:      func() *v1alpha2.VirtualMachineIPAddressLease { return &v1alpha2.VirtualMachineIPAddressLease{} },
			Observe:  r.observe,
			Decide:   r.plan,
		})
}

// claimKey is the index value of a lease: its claim, or nothing when released.
func claimKey(object client.Object) []string {
	lease, ok := object.(*v1alpha2.VirtualMachineIPAddressLease)
	if !ok || claimName(lease) == "" {
		return nil
	}
	ref := lease.Spec.VirtualMachineIPAddressRef
	return []string{ref.Namespace + "/" + ref.Name}
}

func (r *reconciler) leasesOfClaim(ctx context.Context, claim client.Object) []reconcile.Request {
	leases := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	key := claim.GetNamespace() + "/" + claim.GetName()
	if err := r.client.List(ctx, leases, client.MatchingFields{indexByClaim: key}); err != nil {
		// The cache answers; it fails only when the manager stops.
		log.FromContext(ctx).Error(err, "Looking up leases", "claim", key)
		return nil
	}
	return shared.Requests(leases)
}
