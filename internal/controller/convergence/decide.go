// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package convergence

import (
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/operations"
	"github.com/deckhouse/virtualization/internal/controller/shared/slowdown"
)

// Observed is what the decision about a machine sees.
type Observed struct {
	Machine *v1alpha2.VirtualMachine
	// Guest is KubeVirt's object of the machine's name, nil when there is none.
	Guest *virtv1.VirtualMachineInstance
	// Operations are all of the machine's.
	Operations []v1alpha2.VirtualMachineOperation
}

// decide is what the engine has to be told; nil when it goes by the right thing, or by
// what an operation wants.
func decide(o Observed) *bool {
	if o.Guest == nil || o.Guest.IsFinal() || o.Guest.DeletionTimestamp != nil || o.Machine.DeletionTimestamp != nil {
		return nil
	}
	for i := range o.Operations {
		if operation := &o.Operations[i]; operations.IsMigration(operation.Spec.Type) && !operations.IsFinished(operation) {
			return nil
		}
	}
	allow := slowdown.IsAllowed(o.Machine.Spec.LiveMigrationPolicy, nil)
	if slowdown.IsSet(o.Guest) == allow {
		return nil
	}
	return &allow
}
