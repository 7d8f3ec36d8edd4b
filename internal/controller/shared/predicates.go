// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package shared

import (
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
)

// Changed lets an update through when it changes the facts: all that the watching
// controller ever looks at in such an object. What comes, goes or is asked for always
// passes. A watch without it brings back every object that names a shared one, for each
// word in a status that concerns none of them.
func Changed[F comparable](facts func(client.Object) F) predicate.Predicate {
	return predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool { return facts(e.ObjectOld) != facts(e.ObjectNew) }}
}
