// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package virtualmachineclass reconciles VirtualMachineClass: it finds the nodes
// that can run machines of the class and tells what is wrong with its spec. It makes
// no children. What the class means for a guest is decided where machines are.
//
// # States
//
// The first line that fits decides about Ready; a class that is being deleted has the
// phase Terminating in each of them.
//
//	observed                               phase    Ready                        who acts
//	--------                               -----    -----                        --------
//	a selector cannot be read              Pending  False/NodeSelectorInvalid    admin corrects the spec
//	sizing policies overlap or are wrong   Pending  False/SizingPoliciesInvalid  admin corrects the spec
//	Discovery, no shared features          Pending  False/NoCpuFeaturesEnabled   admin makes another class
//	no node passes                         Pending  False/NoSuitableNodesFound   admin, as the message says
//	otherwise                              Ready    True/SuitableNodesFound      nobody
//
// A node passes if the engine runs on it (label kubevirt.io/schedulable), it matches
// spec.nodeSelector, and it can show the processor: what that takes for each type of
// class is told by package machineclass, whose rules are also those of the rendering.
// Under software emulation there is no node for HostPassthrough.
//
// The features of a Discovery follow the nodes until a machine names the class, and
// stay then: all its machines see the same processor, and a node that comes later
// without one of them is not used.
//
//	Discovered  True/DiscoverySucceeded, False/DiscoveryFailed, False/DiscoverySkip
//	InUse       True/VirtualMachineClassInUse, False/NotInUse
//
// The finalizer is on the class only while a machine names it, so a class that nobody
// uses goes at once, and one that is in use goes with its last machine.
package virtualmachineclass
