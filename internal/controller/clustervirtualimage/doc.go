// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clustervirtualimage reconciles ClusterVirtualImage. Everything but the
// shape of the kind is shared with VirtualImage; see package imageimport for the
// table of states.
//
// What is particular to the kind:
//   - the importer runs in the module's namespace,
//   - the image is always kept in the registry,
//   - the finalizer is virtualization.deckhouse.io/cvi-cleanup.
package clustervirtualimage
