// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package ipam is the arithmetic of machine addresses: which addresses a pool
// has, which of them may be given away, which one comes next, and how a lease is
// named after its address. It knows no API server: what is taken comes in through
// the Allocator's methods, and the truth stays with the leases.
package ipam
