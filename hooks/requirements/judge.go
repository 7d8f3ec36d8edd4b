// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package requirements

import (
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// The oldest kernel on which guests are known to run and move well.
const (
	kernelMajor = 5
	kernelMinor = 7
)

// shown is how many nodes a message names before it counts.
const shown = 3

// Requirements, as the metric names them.
const (
	RequireNetwork        = "cni"
	RequireKernel         = "kernel"
	RequireVirtualization = "virtualization"
	RequireDefaultClass   = "default-storage-class"
	RequireSharedClass    = "shared-storage-class"
)

// Node is what the decision needs to know of a node.
type Node struct {
	Name   string `json:"name"`
	OS     string `json:"os"`
	Kernel string `json:"kernel"`
	// KVM is how many guests may use the processor's help, as the engine's agent on the node has found out; empty while
	// it has not looked.
	KVM string `json:"kvm"`
	// Network is who says that the node's network is up.
	Network string `json:"network"`
	// Label and Note are what an earlier run has written.
	Label string `json:"label"`
	Note  string `json:"note"`
}

// Cluster is everything that a decision is made from.
type Cluster struct {
	Nodes []Node
	// Emulated tells that guests run without the help of the nodes' processors.
	Emulated bool
	// Classes are all storage classes, DefaultClass is the one that disks get.
	Classes      []string
	DefaultClass string
	// Shared are the storage classes whose volumes several nodes can use at once; nil while nobody knows.
	Shared []string
}

// verdict is what there is to say about one requirement; no problem means that it is met.
type verdict struct {
	requirement string
	problem     string
}

// judge is pure. What is not known yet is left out.
func judge(c Cluster) []verdict {
	var out []verdict
	linux := slices.DeleteFunc(slices.Clone(c.Nodes), func(n Node) bool { return n.OS != "linux" })
	slices.SortFunc(linux, func(a, b Node) int { return strings.Compare(a.Name, b.Name) })
	if len(linux) > 0 {
		out = append(out, verdict{RequireNetwork, networkProblem(linux)}, verdict{RequireKernel, kernelProblem(linux)})
	}
	if c.Emulated || slices.ContainsFunc(linux, func(n Node) bool { return n.KVM != "" }) {
		out = append(out, verdict{RequireVirtualization, virtualizationProblem(linux, c.Emulated)})
	}
	out = append(out, verdict{RequireDefaultClass, defaultClassProblem(c)})
	if c.Shared != nil {
		out = append(out, verdict{RequireSharedClass, sharedClassProblem(c)})
	}
	return out
}

// networkProblem looks for Cilium by what it says about the nodes that it serves.
func networkProblem(all []Node) string {
	without := choose(all, func(n Node) bool { return n.Network != "CiliumIsUp" })
	switch len(without) {
	case 0:
		return ""
	case len(all):
		return "Cilium was not found: machines get their own addresses only from a CNI that honours the annotation cni.cilium.io/ipAddress " +
			"and whose nodes reach each other at layer 3; enable the module cni-cilium, unless yours does"
	}
	return fmt.Sprintf("Cilium does not serve the network of %s: look at its pods there", names(without))
}

func kernelProblem(all []Node) string {
	old := choose(all, func(n Node) bool { return !kernelSupported(n.Kernel) })
	if len(old) == 0 {
		return ""
	}
	return fmt.Sprintf("the kernel of %s is older than %d.%d: update the operating system there, or keep machines away by nodeSelector "+
		"of the VirtualMachineClasses", names(old), kernelMajor, kernelMinor)
}

var kernelVersion = regexp.MustCompile(`^(\d+)\.(\d+)`)

// kernelSupported is in doubt on the node's side: versions that can't be read are those of special builds.
func kernelSupported(text string) bool {
	found := kernelVersion.FindStringSubmatch(text)
	if found == nil {
		return true
	}
	major, _ := strconv.Atoi(found[1])
	minor, _ := strconv.Atoi(found[2])
	return major > kernelMajor || major == kernelMajor && minor >= kernelMinor
}

func virtualizationProblem(all []Node, emulated bool) string {
	without := choose(all, func(n Node) bool { return n.KVM == "0" })
	if emulated || len(without) == 0 {
		return ""
	}
	return fmt.Sprintf("the processor of %s gives guests no help (/dev/kvm): switch on VT-x or AMD-V in the firmware, or nested virtualization "+
		"where the node itself is virtual; till then machines can't start there; to try the module out, set softwareEmulation in its ModuleConfig", names(without))
}

func defaultClassProblem(c Cluster) string {
	switch {
	case len(c.Classes) == 0:
		return "there is no storage class: enable a module with storage, or add a StorageClass, so that disks and images have a place"
	case c.DefaultClass == "":
		return "there is no default storage class: disks that name none will wait; annotate one with storageclass.kubernetes.io/is-default-class=true, " +
			"or name one in virtualDisks.defaultStorageClassName of ModuleConfig virtualization"
	case !slices.Contains(c.Classes, c.DefaultClass):
		return fmt.Sprintf("there is no storage class %s, which disks that name none get by virtualDisks.defaultStorageClassName of "+
			"ModuleConfig virtualization: add it, or name another one there", c.DefaultClass)
	}
	return ""
}

func sharedClassProblem(c Cluster) string {
	if len(c.Shared) > 0 {
		return ""
	}
	return "no storage class gives volumes that several nodes can use at once (ReadWriteMany): machines with disks can't move to another node while " +
		"they run; add such storage, or, if yours can do it, say so in spec.claimPropertySets of its StorageProfile"
}

func choose(all []Node, match func(Node) bool) []Node {
	return slices.DeleteFunc(slices.Clone(all), func(n Node) bool { return !match(n) })
}

// names are those of a few nodes, for a message.
func names(chosen []Node) string {
	var list []string
	for _, each := range chosen[:min(shown, len(chosen))] {
		list = append(list, each.Name)
	}
	text := "node " + strings.Join(list, ", ")
	if more := len(chosen) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}
