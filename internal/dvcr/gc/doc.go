// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package gc frees what images leave behind in the registry (DVCR) while the
// registry goes on serving reads and writes.
//
// Two sides meet here. The Guard sits under every request: whatever the registry
// looks at on behalf of a push is noted before it is looked at. The Collector
// first notes the Guard's count, then marks what manifests refer to, then removes
// the rest, each piece under the Guard's lock and only if no push has looked at
// it since the count, and none holds a lease on it.
//
// That is enough for a push never to lose a blob it was told to be there:
//   - it looked before the count and has published: the marking saw its manifest;
//   - it looked before the count and has not published: it has a lease, which
//     lasts while a request runs and for a grace period afterwards;
//   - it looked after the count: the piece is left to a later run;
//   - it looks after the removal: it is told that the blob is not there.
//
// Leases are in memory. A process that has just started knows of none, so it
// removes nothing for as long as a lease of its predecessor could have lasted.
//
// Everything goes through distribution's interface of storage drivers, so it
// does not matter whether images lie in a directory or in an object store.
package gc
