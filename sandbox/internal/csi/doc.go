// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package csi is the sandbox's storage driver.
//
// A volume is one sparse file in a directory that all nodes of the sandbox share,
// and one loop device over it. The nodes share the machine's kernel too, so a loop
// device that is used on two nodes is the same device, and a file system that is
// mounted on two nodes is the same superblock: ReadWriteMany is true to its word
// for Block and for Filesystem, the capacity is honoured, and growing works online.
//
// The Kubernetes project's csi-driver-host-path would not do: it keeps its state in
// the memory of one process a node, so no volume of it can be on two nodes, and the
// module proxy does not serve it. The sidecars (external-provisioner and
// external-resizer) are the released ones; registration with the kubelet is done in
// this process, since node-driver-registrar is not served either.
package csi
