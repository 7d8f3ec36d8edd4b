// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package webhook refuses objects that could never work, at the moment at which
// their author is still looking: what the schema cannot say because it takes
// another object or a setting to know it.
//
// Three rules hold for all handlers. They never change an object; only its finalizer
// may be put on a new one, which the controller would do a moment later. They never stop
// a deletion, nor a write that leaves spec, labels and annotations as they are, so
// that controllers and the garbage collector always get through. And an update is
// only judged by what it changes: a machine must not become read-only because its
// class was tightened after it was made.
package webhook
