// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package subresources is the aggregated API server for what people do with a
// running machine: group subresources.virtualization.deckhouse.io/v1alpha2.
//
// A request passes kube-apiserver, which authenticates the user, and then this
// server, which asks kube-apiserver whether the user may (delegated
// authorization). Only then a second websocket is opened, with the server's own
// ServiceAccount and again through kube-apiserver, to the same stream of stock
// KubeVirt, and the two are joined. So users never need rights on KubeVirt's
// kinds, and KubeVirt needs no patch to trust this server.
//
//	client ── websocket ── kube-apiserver ── virtualization-api
//	                            │                   │
//	                            └── websocket ──────┘ ── virt-api ── virt-handler ── guest
package subresources
