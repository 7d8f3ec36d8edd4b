// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ipam is the arithmetic of machine addresses: which addresses a pool
// has, which of them may be given away, which one comes next, and how a lease is
// named after its address. It is pure: what is taken comes in as a function, so
// that the truth stays with the leases in the API server.
package ipam
