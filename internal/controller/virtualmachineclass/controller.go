// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"context"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/utils/clock"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/machineclass"
)

// ControllerName is the name of the controller in logs, metrics and events.
const ControllerName = "virtualmachineclass"

// indexMachineClass finds the machines that name a class. The prefix keeps it apart
// from the indexes of other controllers on the same kind.
const indexMachineClass = "virtualmachineclass.machine.class"

// Options configure the controller.
type Options struct {
	Clock clock.PassiveClock
	// Emulated tells that guests run without the help of the nodes' processors.
	Emulated bool
}

// Setup registers the controller.
func Setup(mgr ctrl.Manager, options Options) error {
	err := mgr.GetFieldIndexer().IndexField(context.Background(), &v1alpha2.VirtualMachine{}, indexMachineClass, classOf)
	if err != nil {
		return fmt.Errorf("indexing machines by class: %w", err)
	}
	observer := &observer{reader: mgr.GetClient(), clock: options.Clock, emulated: options.Emulated}
	err = ctrl.NewControllerManagedBy(mgr).
		Named(ControllerName).
		For(&v1alpha2.VirtualMachineClass{}).
		Watches(&v1alpha2.VirtualMachine{}, handler.EnqueueRequestsFromMapFunc(mapMachine), builder.WithPredicates(namesChange())).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(mapNode(mgr.GetClient())), builder.WithPredicates(nodeMatters())).
		Complete(&shared.Reconciler[*v1alpha2.VirtualMachineClass, Observed]{
			Executor: shared.NewExecutor(mgr, ControllerName),
			New:      func() *v1alpha2.VirtualMachineClass { return &v1alpha2.VirtualMachineClass{} },
			Observe:  observer.observe,
			Decide:   decide,
		})
	if err != nil {
		return fmt.Errorf("setting up the controller %s: %w", ControllerName, err)
	}
	return nil
}

func classOf(object client.Object) []string {
	machine, ok := object.(*v1alpha2.VirtualMachine)
	if !ok || machineclass.NameFor(machine) == "" {
		return nil
	}
	return []string{machineclass.NameFor(machine)}
}

// mapMachine is called with both the old and the new object of an update, so a
// machine that changes its class tells both.
func mapMachine(_ context.Context, machine client.Object) []reconcile.Request {
	var out []reconcile.Request
	for _, class := range classOf(machine) {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKey{Name: class}})
	}
	return out
}

// namesChange lets an update of a machine through only if it names another class.
func namesChange() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := classOf(e.ObjectOld), classOf(e.ObjectNew)
		return fmt.Sprint(before) != fmt.Sprint(after)
	}}
}

// nodeMatters keeps the heartbeats of the nodes away.
func nodeMatters() predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
		before, isNode := e.ObjectOld.(*corev1.Node)
		after, stillNode := e.ObjectNew.(*corev1.Node)
		if !isNode || !stillNode {
			return false
		}
		return !maps.Equal(before.Labels, after.Labels) ||
			!equality.Semantic.DeepEqual(before.Status.Capacity, after.Status.Capacity) ||
			!equality.Semantic.DeepEqual(before.Status.Allocatable, after.Status.Allocatable)
	}}
}

// mapNode tells every class: there are few, and each may choose any node.
func mapNode(reader client.Reader) handler.MapFunc {
	return func(ctx context.Context, _ client.Object) []reconcile.Request {
		classes := &v1alpha2.VirtualMachineClassList{}
		if err := reader.List(ctx, classes); err != nil {
			ctrl.LoggerFrom(ctx).Error(err, "Listing the classes that a node may matter to")
			return nil
		}
		return shared.Requests(classes)
	}
}
