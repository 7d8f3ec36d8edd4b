// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package shared holds what every kind's controller does alike: the shape of a
// reconcile (observe, decide, apply), the writer that carries a Plan out, and
// the rules for conditions, errors and events.
//
// A kind's package supplies two functions: observe, which reads everything the
// decision needs into one plain struct, and decide, which is pure and returns a
// Plan. Everything that touches the API server lives here, so that the order of
// writes, and with it every crash point, is the same for all kinds:
//
//  1. the finalizer is added,
//  2. children are deleted, then applied, then created,
//  3. external actions run (for example deleting an image from the registry),
//  4. the status is patched, once, and only when it differs,
//  5. events are recorded,
//  6. the finalizer is removed.
//
// A crash between any two steps leaves a state from which the next reconcile
// comes to the same plan: children have deterministic names, creating one that
// exists already is no error, and the finalizer goes last.
package shared
