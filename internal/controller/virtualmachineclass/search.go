// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/machineclass"
)

// shownModels and its siblings bound how many names a message lists.
const (
	shownModels   = 8
	shownFeatures = 8
	shownNodes    = 5
)

// search is the way from all nodes to those that can run machines of a class. Each
// list is chosen from the one before, but for unable.
type search struct {
	processor machineclass.Processor
	// capable nodes run the engine, selected ones match spec.nodeSelector and can run
	// guests, available ones show the processor too.
	capable, selected, available []Node
	// unable nodes match spec.nodeSelector, and their processors do not help guests,
	// who need it.
	unable []Node
}

func newSearch(o Observed, selector labels.Selector, processor machineclass.Processor) search {
	s := search{processor: processor}
	s.capable = choose(o.Nodes, Node.canRunMachines)
	s.selected = choose(s.capable, func(node Node) bool { return selector.Matches(labels.Set(node.Labels)) })
	if !o.Emulated {
		s.unable = choose(s.selected, Node.lacksKVM)
		s.selected = choose(s.selected, func(node Node) bool { return !node.lacksKVM() })
	}
	s.available = choose(s.selected, func(node Node) bool {
		// An emulator has no processor of the node to hand through.
		emulates := o.Emulated && o.Class.Spec.CPU.Type == v1alpha2.CPUTypeHostPassthrough
		return !emulates && processor.FitsNode(node.Labels)
	})
	return s
}

// explain names the narrowest gate that no node passes.
func (s search) explain(o Observed) string {
	cpu := o.Class.Spec.CPU
	switch {
	case len(s.capable) == 0:
		return fmt.Sprintf("None of the %d nodes is ready to run machines (label %s=true); look at the module's pods on the nodes",
			len(o.Nodes), machineclass.LabelSchedulable)
	case len(s.selected) == 0 && len(s.unable) > 0:
		return "No node that the class selects gives guests hardware virtualization (/dev/kvm): " + s.explainUnable()
	case len(s.selected) == 0:
		return fmt.Sprintf("spec.nodeSelector: none of the %d nodes that run machines matches; change it or label nodes", len(s.capable))
	}
	switch cpu.Type {
	case v1alpha2.CPUTypeHostPassthrough:
		return "spec.cpu.type: guests are emulated in software here (softwareEmulation in ModuleConfig virtualization), " +
			"and an emulator cannot hand the node's processor through; make a class of another type"
	case v1alpha2.CPUTypeModel:
		return fmt.Sprintf("spec.cpu.model: no chosen node can show the model %s to guests; make a class with another model: %s",
			cpu.Model, s.offeredModels())
	case v1alpha2.CPUTypeHost:
		return "spec.cpu.type: the processors of the chosen nodes are older than the oldest model that the engine offers; make a class of the type HostPassthrough"
	default:
		return s.explainFeatures()
	}
}

func (s search) explainUnable() string {
	return machineclass.Shown(names(s.unable), shownNodes) +
		"; switch on VT-x or AMD-V in the firmware (nested virtualization, where the node is virtual), or choose other nodes by spec.nodeSelector"
}

// offeredModels lists what the nodes offer instead.
func (s search) offeredModels() string {
	var models []string
	for _, node := range s.selected {
		models = append(models, machineclass.Models(node.Labels)...)
	}
	slices.Sort(models)
	models = slices.Compact(models)
	if len(models) == 0 {
		return fmt.Sprintf("the nodes offer none yet (labels %s<model>)", machineclass.PrefixModel)
	}
	return "the nodes offer " + machineclass.Shown(models, shownModels)
}

// explainFeatures names what the node that comes nearest lacks.
func (s search) explainFeatures() string {
	withModel := choose(s.selected, func(node Node) bool {
		return node.Labels[machineclass.PrefixModel+s.processor.Model] == machineclass.Yes
	})
	if len(withModel) == 0 {
		return fmt.Sprintf("spec.cpu: features are added to the model %s, and no chosen node can show that (label %s); choose other nodes",
			s.processor.Model, machineclass.PrefixModel+s.processor.Model)
	}
	nearest := slices.MinFunc(withModel, func(a, b Node) int {
		return len(s.processor.Missing(a.Labels)) - len(s.processor.Missing(b.Labels))
	})
	return fmt.Sprintf("spec.cpu: no chosen node has all the features; node %s, which has most, lacks %s; make a class without them",
		nearest.Name, machineclass.Shown(s.processor.Missing(nearest.Labels), shownFeatures))
}

// caution tells where a running machine had better not be moved, although the nodes
// are all good to start it.
func (s search) caution(cpuType v1alpha2.CPUType) string {
	if len(s.unable) > 0 {
		return "; selected nodes without hardware virtualization (/dev/kvm) are left out: " + s.explainUnable()
	}
	switch cpuType {
	case v1alpha2.CPUTypeHost:
		// The engine itself looks for a node with the model that the guest has.
		return ""
	case v1alpha2.CPUTypeHostPassthrough:
		if len(distinct(s.available, machineclass.Kind)) > 1 {
			return "; their processors differ, and a running machine can be moved only between like ones: choose like nodes by spec.nodeSelector"
		}
		return ""
	}
	if makers := distinct(s.available, machineclass.Vendor); len(makers) > 1 {
		return fmt.Sprintf("; their processors are made by %s, and a running machine should not be moved from one to the other: "+
			"choose one by spec.nodeSelector with the label %s<maker>", strings.Join(makers, " and "), machineclass.PrefixVendor)
	}
	return ""
}
