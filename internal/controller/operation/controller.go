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

// Indexes of the cache: all operations of a machine, and those that are not
// finished.
const (
	indexByMachine       = "operation.machine"
	indexActiveByMachine = "operation.active"
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

// Setup registers the controller with the manager.
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
	index := func(name string, covers func(*v1alpha2.VirtualMachineOperation) bool) error {
		return indexer.IndexField(ctx, &v1alpha2.VirtualMachineOperation{}, name, func(object client.Object) []string {
			operation, ok := object.(*v1alpha2.VirtualMachineOperation)
			if !ok || !covers(operation) {
				return nil
			}
			return []string{operation.Spec.VirtualMachineName}
		})
	}
	if err := index(indexByMachine, func(*v1alpha2.VirtualMachineOperation) bool { return true }); err != nil {
		return err
	}
	return index(indexActiveByMachine, func(operation *v1alpha2.VirtualMachineOperation) bool { return !operations.IsFinished(operation) })
}

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
