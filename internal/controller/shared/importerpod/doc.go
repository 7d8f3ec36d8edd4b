// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package importerpod builds the Pod that moves an image's or a disk's bytes, with
// the Secret it reads, and tells from the Pod how the transfer stands. Images and
// the volume populator order their importers here, so a transfer looks the same
// wherever it comes from.
//
// An Order names one source and one target. Importers run in the module's
// namespace: no quota of a project stands in the way and no token lies where a
// tenant can read it. Only one that reads a tenant's claim has to run beside it.
// An owner in another namespace cannot be an ownerReference, so the Pod carries
// its owner as an annotation (see Subject), and the owner's finalizer cleans up.
package importerpod
