// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package virtualimage reconciles VirtualImage. Everything but the shape of the
// kind is shared with ClusterVirtualImage; see package imageimport for the table
// of states.
//
// What is particular to the kind:
//   - an image can be kept on a volume in its namespace, with a storage class of
//     spec.persistentVolumeClaim, of the module's settings or of the cluster,
//   - what its data source names is in its own namespace,
//   - the finalizer is virtualization.deckhouse.io/vi-cleanup.
package virtualimage
