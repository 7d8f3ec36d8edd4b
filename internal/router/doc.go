// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package router keeps the routes to machines on one node.
//
// The addresses of machines lie outside the nodes' pod ranges, so that a machine
// keeps its address when it moves. No CNI routes them by itself. On every node an
// own table holds one route a machine:
//
//	machine on this node     throw: the CNI's route to the pod is in the main table
//	                         (on Cilium: through cilium_host)
//	machine on another node  through that node's address
//	any other address        blackhole, so that it does not leak to the default gateway
//
// and one policy rule a range sends traffic there. The whole wanted state is
// computed from machines and nodes at each change and compared with the kernel's
// own dump: there is nothing to remember, so nothing can go stale.
package router
