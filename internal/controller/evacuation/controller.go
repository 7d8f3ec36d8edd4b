// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package evacuation

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
)

const (
	controllerName = "evacuation"
	guardName      = "evacuation-guard"
)

// indexByMark is the index of the cache that finds guests by the node that they have to
// leave.
const indexByMark = "evacuation.mark"

// Options configure the controllers.
type Options struct {
	// Clock is the real one unless a test sets it.
	Clock clock.PassiveClock
	// TakeBack lets a guest stay that was told to leave its node; KubeVirt's
	// subresource unless a test sets it.
	TakeBack func(ctx context.Context, guest *virtv1.VirtualMachineInstance) error
}

// Setup registers both controllers with the manager, whose cache has operations.ByMachine: the one that orders, by
// machine, and the guard of what was ordered, by operation.
func Setup(mgr ctrl.Manager, opts Options) error {
	if opts.Clock == nil {
		opts.Clock = clock.RealClock{}
	}
	if opts.TakeBack == nil {
		takeback, err := newTakeBack(mgr.GetConfig(), mgr.GetHTTPClient())
		if err != nil {
			return err
		}
		opts.TakeBack = takeback
	}
	if err := addIndexes(mgr.GetFieldIndexer()); err != nil {
		return err
	}
	executor := shared.NewExecutor(mgr, shared.FieldManager)
	r := &reconciler{Executor: executor, direct: mgr.GetAPIReader(), clock: opts.Clock, takeback: opts.TakeBack}
	r.main = r.newLoop()
	err := ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha2.VirtualMachine{}, builder.WithPredicates(changed(machineFacts))).
		Watches(&virtv1.VirtualMachineInstance{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(changed(guestFacts))).
		Watches(&v1alpha2.VirtualMachineOperation{}, handler.EnqueueRequestsFromMapFunc(operations.Wake)).
		Watches(&corev1.Node{}, handler.EnqueueRequestsFromMapFunc(r.markedGuests), builder.WithPredicates(changed(nodeFacts))).
		Complete(r)
	if err != nil {
		return err
	}
	return ctrl.NewControllerManagedBy(mgr).
		Named(guardName).
		For(&v1alpha2.VirtualMachineOperation{}, builder.WithPredicates(predicate.NewPredicateFuncs(isGuarded))).
		Complete(r.newGuard())
}

func addIndexes(indexer client.FieldIndexer) error {
	return indexer.IndexField(context.Background(), &virtv1.VirtualMachineInstance{}, indexByMark, marksOf)
}

func marksOf(object client.Object) []string {
	if guest, ok := object.(*virtv1.VirtualMachineInstance); ok && guest.Status.EvacuationNodeName != "" {
		return []string{guest.Status.EvacuationNodeName}
	}
	return nil
}

// markedGuests wakes the machines whose guests were told to leave the node.
func (r *reconciler) markedGuests(ctx context.Context, node client.Object) []reconcile.Request {
	guests := &virtv1.VirtualMachineInstanceList{}
	if err := r.Client.List(ctx, guests, client.MatchingFields{indexByMark: node.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
		// The cache answers; it fails only when the manager stops.
		return nil
	}
	return shared.Requests(guests)
}

func isGuarded(object client.Object) bool {
	return controllerutil.ContainsFinalizer(object, v1alpha2.FinalizerVMOPEvacuation)
}

// changed lets through the objects whose facts are of interest, when they appear,
// and each change of the facts. Guests and machines change often, and hardly ever
// in what matters here.
func changed(facts func(client.Object) (all string, interesting bool)) predicate.Predicate {
	return predicate.Funcs{
		CreateFunc: func(e event.CreateEvent) bool {
			_, interesting := facts(e.Object)
			return interesting
		},
		UpdateFunc: func(e event.UpdateEvent) bool {
			before, was := facts(e.ObjectOld)
			after, is := facts(e.ObjectNew)
			return (was || is) && before != after
		},
		DeleteFunc:  func(event.DeleteEvent) bool { return false },
		GenericFunc: func(event.GenericEvent) bool { return false },
	}
}

// machineFacts are those that an order waits for. A machine alone is no cause to
// begin: its guest's mark is. That the machine shows the mark is a fact, too: its guest
// may have been looked at while nothing else about the machine was known yet.
func machineFacts(object client.Object) (string, bool) {
	machine, ok := object.(*v1alpha2.VirtualMachine)
	if !ok {
		return "", false
	}
	migratable := meta.FindStatusCondition(machine.Status.Conditions, v1alpha2.ConditionMigratable)
	if migratable == nil {
		migratable = &metav1.Condition{}
	}
	required := meta.IsStatusConditionTrue(machine.Status.Conditions, v1alpha2.ConditionEvictionRequired)
	return fmt.Sprintf("%s/%s/%t", machine.Status.Phase, migratable.Status, required), required
}

func guestFacts(object client.Object) (string, bool) {
	guest, ok := object.(*virtv1.VirtualMachineInstance)
	if !ok {
		return "", false
	}
	return guest.Status.NodeName + "/" + mark(guest) + "/" + markedSince(guest).String(), mark(guest) != ""
}

func nodeFacts(object client.Object) (string, bool) {
	node, ok := object.(*corev1.Node)
	if !ok || !node.Spec.Unschedulable {
		return "", ok
	}
	return "cordoned", true
}
