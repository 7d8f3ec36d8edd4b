// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package names holds what clients and the server of the subresource API must
// agree on. It has no dependencies, so that clients stay small.
package names

const (
	// Group of the aggregated API.
	Group = "subresources.virtualization.deckhouse.io"
	// Version of the aggregated API.
	Version = "v1alpha2"
	// Subprotocol of its websockets: binary frames without a channel byte.
	Subprotocol = "plain.virtualization.deckhouse.io"
)
