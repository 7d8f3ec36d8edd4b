// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/writers"
)

const controllerName = "virtualmachineoperation"

// Indexes of the cache: the operations of a machine that are not finished, and the
// engine's orders to move its guest.
const (
	indexActiveByMachine = "operation.active"
	indexMigrations      = "operation.migration"
)

// concurrency is how many operations are reconciled at once.
const concurrency = 2

// Options configure the controller.
type Options struct {
	// Writers knows who has which disk; it is shared with everybody who starts guests.
	Writers *writers.Ledger
	// Clock is the real one unless a test sets it.
	Clock clock.PassiveClock
}

// Setup registers the controller with the manager, whose cache has operations.ByMachine.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if err := addIndexes(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	r := &reconciler{
		Executor: shared.NewExecutor(mgr, shared.FieldManager),
		direct:   mgr.GetAPIReader(),
		clock:    opts.Clock,
		writers:  opts.Writers,
	}
	r.main = r.newLoop("")
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		// Its own status is news: an order is given after the status has told what it
		// is going to act on.
		For(&v1alpha2.VirtualMachineOperation{}).
		Watches(&v1alpha2.VirtualMachineOperation{}, r.wake(machineOfOperation)).
		Watches(&v1alpha2.VirtualMachine{}, r.wake(client.Object.GetName)).
		Watches(&virtv1.VirtualMachine{}, r.wake(client.Object.GetName)).
		Watches(&virtv1.VirtualMachineInstance{}, r.wake(client.Object.GetName)).
		Watches(&virtv1.VirtualMachineInstanceMigration{}, r.wake(guestOfMigration)).
		Watches(&corev1.Pod{}, r.wake(shared.GuestOfPod)).
		WithOptions(controller.Options{MaxConcurrentReconciles: concurrency}).
		Complete(r)
}

func addIndexes(indexer client.FieldIndexer) error {
	ctx := context.Background()
	if err := indexer.IndexField(ctx, &v1alpha2.VirtualMachineOperation{}, indexActiveByMachine, activeMachines); err != nil {
		return err
	}
	return indexer.IndexField(ctx, &virtv1.VirtualMachineInstanceMigration{}, indexMigrations, movedGuests)
}

func activeMachines(object client.Object) []string {
	if operation, ok := object.(*v1alpha2.VirtualMachineOperation); ok && !operations.IsFinished(operation) {
		return operations.Machines(operation)
	}
	return nil
}

func movedGuests(object client.Object) []string { return []string{guestOfMigration(object)} }

// wake reconciles the active operations of the machine that an object belongs to.
// Machines without any, which are nearly all, cost a look into an index.
func (r *reconciler) wake(machine func(client.Object) string) handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		name := machine(object)
		if name == "" {
			return nil
		}
		list := &v1alpha2.VirtualMachineOperationList{}
		err := r.Client.List(ctx, list, client.InNamespace(object.GetNamespace()),
			client.MatchingFields{indexActiveByMachine: name}, client.UnsafeDisableDeepCopy)
		if err != nil {
			// The cache answers; it fails only when the manager stops.
			log.FromContext(ctx).Error(err, "Looking up operations")
			return nil
		}
		return shared.Requests(list)
	})
}

func machineOfOperation(object client.Object) string {
	operation, ok := object.(*v1alpha2.VirtualMachineOperation)
	if !ok {
		return ""
	}
	return operation.Spec.VirtualMachineName
}

func guestOfMigration(object client.Object) string {
	migration, ok := object.(*virtv1.VirtualMachineInstanceMigration)
	if !ok {
		return ""
	}
	return migration.Spec.VMIName
}
