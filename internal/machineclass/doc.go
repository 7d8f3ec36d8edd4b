// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package machineclass holds the rules about VirtualMachineClasses that more than one
// part of the platform needs: which processor the guests of a class see and which
// nodes can show it, which nodes a class chooses, which class a machine has, and what
// is wrong with a class. It is pure: admission, the controller of classes and the
// rendering of machines ask the same functions, so that the nodes that a class lists
// are those on which its machines are put.
//
// What a node can show is in its labels, which the engine's node labeller keeps:
//
//	kubevirt.io/schedulable=true                    the engine is up on the node
//	cpu-model.node.kubevirt.io/<model>              models that the node can show as a whole
//	cpu-feature.node.kubevirt.io/<feature>          features that the node can show
//	host-model-cpu.node.kubevirt.io/<model>         the model nearest to the node's own
//	cpu-vendor.node.kubevirt.io/<maker>             whose processor it is
//	node-labeller.kubevirt.io/obsolete-host-model   the nearest model is too old to be used
//
// # The base model
//
// KubeVirt has no processor that is nothing but a list of features: without a model a
// guest gets the node's own, and a class of features would differ from node to node.
// So Features and Discovery start from a model. QEMU's emptiest one, qemu64, is on the
// engine's list of obsolete models, and no node is labelled with it: a machine with it
// is never put anywhere. Of the models that are left Nehalem is the smallest that
// today's systems start on (it is the level x86-64-v2), no processor made by Intel or
// AMD since 2011 lacks any of it, and QEMU emulates it whole.
package machineclass
