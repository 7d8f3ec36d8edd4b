// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package router keeps the routes to machines on one node.
//
// The addresses of machines lie outside the nodes' pod ranges, so that a machine
// keeps its address when it moves. No CNI routes them by itself. On every node an
// own table holds one route a machine:
//
//	machine on this node     throw: the CNI's route to the pod is in the main table
//	                         (on Cilium: into cilium_host)
//	machine on another node  the way that the kernel knows to that node's address
//	                         (on Cilium: to its CiliumInternalIP)
//	any other address        blackhole, so that it does not leak to the default gateway
//
// and one policy rule a range sends traffic there. The whole wanted state is
// computed from machines, guests and nodes at each change and compared with the
// kernel's own dump: there is nothing to remember, so nothing can go stale.
//
// Who has an address is said by the VirtualMachine; on which node it is, by KubeVirt's
// VirtualMachineInstance, so that a guest is followed when it has moved, not when its
// new pod was made, and also while our controller is away.
//
// Routes outlive the program: they are neither flushed when it starts nor removed
// when it ends, unless its DaemonSet is gone (see Retirement).
package router
