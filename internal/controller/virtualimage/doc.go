// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package virtualimage reconciles VirtualImage. Everything but the shape of the
// kind is shared with ClusterVirtualImage; see package imageimport for the table
// of states.
//
// What is particular to the kind:
//   - the importer runs in the image's namespace,
//   - spec.storage other than ContainerRegistry is not supported by this version
//     and says so in the condition DatasourceReady,
//   - the finalizer is virtualization.deckhouse.io/vi-cleanup.
package virtualimage
