// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operations

import (
	"context"
	"fmt"

	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// ByMachine is the index of the cache that finds operations, also finished ones, by
// their machine.
const ByMachine = "operations.machine"

// Index adds the index to the cache. Those who read it share it, so whoever puts them
// together calls this, once.
func Index(indexer client.FieldIndexer) error {
	err := indexer.IndexField(context.Background(), &v1alpha2.VirtualMachineOperation{}, ByMachine, Machines)
	if err != nil {
		return fmt.Errorf("indexing operations by machine: %w", err)
	}
	return nil
}

// Machines are the values of the index: the machine that an operation is for.
func Machines(object client.Object) []string {
	if operation, ok := object.(*v1alpha2.VirtualMachineOperation); ok {
		return []string{operation.Spec.VirtualMachineName}
	}
	return nil
}

// Wake asks for a reconcile of the machine that an operation is for.
func Wake(_ context.Context, object client.Object) []reconcile.Request {
	var out []reconcile.Request
	for _, name := range Machines(object) {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKey{Namespace: object.GetNamespace(), Name: name}})
	}
	return out
}
