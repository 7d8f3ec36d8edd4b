// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
	"github.com/deckhouse/virtualization/internal/machineclass"
)

// noClass stands in the index for machines that have no class yet; no class can have
// this name.
const noClass = "-"

// observeClass looks up the machine's class. A machine that names none is given the
// default one: in the observation, where everything else then finds the name, and in
// the status, which makes it last. The stored spec stays the user's.
func (r *reconciler) observeClass(ctx context.Context, o *decision.Observed) error {
	name := machineclass.NameFor(o.Machine)
	if name == "" {
		classes := &v1alpha2.VirtualMachineClassList{}
		if err := r.Client.List(ctx, classes); err != nil {
			return fmt.Errorf("listing the classes: %w", err)
		}
		if o.Class = machineclass.Default(classes.Items); o.Class != nil {
			o.Machine.Spec.VirtualMachineClassName = o.Class.Name
		}
		return nil
	}
	o.Machine.Spec.VirtualMachineClassName = name
	var err error
	o.Class, err = shared.Find(ctx, r.Client, client.ObjectKey{Name: name}, &v1alpha2.VirtualMachineClass{})
	return err
}

func classKeys(machine *v1alpha2.VirtualMachine) []string {
	if name := machineclass.NameFor(machine); name != "" {
		return []string{name}
	}
	return []string{noClass}
}

// wakeByClass wakes the machines of a class, and when it is the default one those that
// wait for a class.
func (r *reconciler) wakeByClass() handler.EventHandler {
	return handler.EnqueueRequestsFromMapFunc(func(ctx context.Context, object client.Object) []reconcile.Request {
		requests := r.machines(ctx, client.MatchingFields{indexByClass: object.GetName()})
		if class, ok := object.(*v1alpha2.VirtualMachineClass); ok && machineclass.IsDefault(class) {
			requests = append(requests, r.machines(ctx, client.MatchingFields{indexByClass: noClass})...)
		}
		return requests
	})
}
