// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package convergence

import (
	"context"
	"fmt"

	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/slowdown"
)

const controllerName = "convergence"

type loop = shared.Reconciler[*v1alpha2.VirtualMachine, Observed]

// Setup registers the controller with the manager, whose cache has operations.ByMachine.
func Setup(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named(controllerName).
		For(&v1alpha2.VirtualMachine{}, builder.WithPredicates(shared.Changed(policyOf))).
		Watches(&virtv1.VirtualMachineInstance{}, &handler.EnqueueRequestForObject{}, builder.WithPredicates(shared.Changed(isSet))).
		Watches(&v1alpha2.VirtualMachineOperation{}, handler.EnqueueRequestsFromMapFunc(operations.Wake), builder.WithPredicates(shared.Changed(isFinished))).
		Complete(newLoop(shared.NewExecutor(mgr, shared.FieldManager)))
}

func newLoop(executor shared.Executor) *loop {
	return &loop{
		Executor: executor,
		New:      func() *v1alpha2.VirtualMachine { return &v1alpha2.VirtualMachine{} },
		Observe: func(ctx context.Context, machine *v1alpha2.VirtualMachine) (Observed, error) {
			return observe(ctx, executor.Client, machine)
		},
		Decide: func(o Observed) shared.Plan[*v1alpha2.VirtualMachine] { return plan(executor.Client, o) },
	}
}

func observe(ctx context.Context, reader client.Reader, machine *v1alpha2.VirtualMachine) (Observed, error) {
	o := Observed{Machine: machine}
	var err error
	o.Guest, err = shared.Find(ctx, reader, client.ObjectKeyFromObject(machine), &virtv1.VirtualMachineInstance{})
	if err != nil || o.Guest == nil {
		return o, err
	}
	list := &v1alpha2.VirtualMachineOperationList{}
	if err := reader.List(ctx, list, client.InNamespace(machine.Namespace), client.MatchingFields{operations.ByMachine: machine.Name}); err != nil {
		return Observed{}, fmt.Errorf("listing the machine's operations: %w", err)
	}
	o.Operations = list.Items
	return o, nil
}

// plan turns what is to be told to the engine into an action.
func plan(writer client.Client, o Observed) shared.Plan[*v1alpha2.VirtualMachine] {
	var out shared.Plan[*v1alpha2.VirtualMachine]
	if allow := decide(o); allow != nil {
		guest := o.Guest.DeepCopy()
		out.Actions = []shared.Action{{Name: "telling the engine how the guest may be moved", Run: func(ctx context.Context) error {
			// A guest that is gone by now needs nothing any more.
			return client.IgnoreNotFound(slowdown.Set(ctx, writer, guest, *allow))
		}}}
	}
	return out
}

func policyOf(object client.Object) v1alpha2.LiveMigrationPolicy {
	if machine, ok := object.(*v1alpha2.VirtualMachine); ok {
		return machine.Spec.LiveMigrationPolicy
	}
	return ""
}

func isSet(object client.Object) bool {
	guest, ok := object.(*virtv1.VirtualMachineInstance)
	return ok && slowdown.IsSet(guest)
}

func isFinished(object client.Object) bool {
	operation, ok := object.(*v1alpha2.VirtualMachineOperation)
	return ok && operations.IsFinished(operation)
}
