// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"

	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/internal/controller/shared"
)

func guestOfMigration(_ context.Context, object client.Object) []reconcile.Request {
	return requestsFor(object.GetNamespace(), guestsOfMigration(object))
}

func guestsOfMigration(object client.Object) []string {
	if migration, ok := object.(*virtv1.VirtualMachineInstanceMigration); ok {
		return []string{migration.Spec.VMIName}
	}
	return nil
}

func addDisruptionIndexes(ctx context.Context, indexer client.FieldIndexer) error {
	err := indexer.IndexField(ctx, &virtv1.VirtualMachineInstanceMigration{}, indexMigrationsByGuest, guestsOfMigration)
	if err != nil {
		return err
	}
	return indexer.IndexField(ctx, &virtv1.VirtualMachineInstance{}, indexGuestsByNode, nodesOfGuest)
}

func nodesOfGuest(object client.Object) []string {
	if guest, ok := object.(*virtv1.VirtualMachineInstance); ok && guest.Status.NodeName != "" {
		return []string{guest.Status.NodeName}
	}
	return nil
}

// machinesOnNode wakes the machines whose guests are on a node: guests have their
// machines' names.
func (r *reconciler) machinesOnNode(ctx context.Context, node client.Object) []reconcile.Request {
	guests := &virtv1.VirtualMachineInstanceList{}
	if err := r.Client.List(ctx, guests, client.MatchingFields{indexGuestsByNode: node.GetName()}, client.UnsafeDisableDeepCopy); err != nil {
		// The cache answers; it fails only when the manager stops.
		return nil
	}
	return shared.Requests(guests)
}
