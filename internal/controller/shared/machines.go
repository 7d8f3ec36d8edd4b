// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import "github.com/deckhouse/virtualization/api/v1alpha2"

// IsNewMachine tells that nothing was written to a machine's status yet. Its phase
// Pending, the default of the schema, then says nothing: a machine of which there is
// nothing to tell but that it starts is left so until its guest runs.
func IsNewMachine(machine *v1alpha2.VirtualMachine) bool {
	status := &machine.Status
	return status.ObservedGeneration == 0 && (status.Phase == "" || status.Phase == v1alpha2.MachinePending)
}
