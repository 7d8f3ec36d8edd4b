// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package operation

import (
	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/slowdown"
)

// maySlowDown tells whether the migration may slow the guest down to come to an end.
func maySlowDown(o Observed) bool {
	return slowdown.IsAllowed(o.Machine.Spec.LiveMigrationPolicy, o.Operation.Spec.Force)
}

// whatHelps is the remedy for a guest that changes its memory too fast.
func whatHelps(o Observed) string {
	switch {
	case maySlowDown(o):
		return "It is slowed down already; less load in it helps."
	case o.Machine.Spec.LiveMigrationPolicy == v1alpha2.LiveMigrationAlwaysSafe:
		return "Less load in it helps, or another liveMigrationPolicy of the machine than AlwaysSafe."
	}
	return "Repeat the operation with force: true to let it slow the guest down."
}

// slowDownToSet is what the engine has to be told before the guest's migration begins;
// nil when it goes by that already.
func slowDownToSet(o Observed) *bool {
	want := maySlowDown(o)
	if slowdown.IsSet(o.Guest) == want {
		return nil
	}
	return &want
}
