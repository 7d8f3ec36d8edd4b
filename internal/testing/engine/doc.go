// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package engine plays KubeVirt in tests: it follows a script instead of running
// guests. Together with a real API server it lets tests go through the life of a
// machine in milliseconds.
//
// What it does is what stock KubeVirt does as far as the platform can see it: it
// makes a VirtualMachineInstance when the run strategy asks for one, takes it
// through its phases with a pod, sums the state up in the VirtualMachine's
// printable status, and takes everything down again in the order in which KubeVirt
// does. It moves guests between two nodes when a VirtualMachineInstanceMigration asks
// for it. It also collects garbage, which nobody else does beside a bare API server.
package engine
