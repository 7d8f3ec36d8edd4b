// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package clustervirtualimage reconciles ClusterVirtualImage. Everything but the
// shape of the kind is shared with VirtualImage; see package imageimport for the
// table of states.
//
// What is particular to the kind:
//   - what its data source names is in a namespace that it names too,
//   - the image is always kept in the registry,
//   - the finalizer is virtualization.deckhouse.io/cvi-cleanup.
package clustervirtualimage
