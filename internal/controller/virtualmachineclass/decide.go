// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/machineclass"
	"github.com/deckhouse/virtualization/internal/sizing"
)

// Reasons of the events about a class.
const (
	eventReady    = "NodesFound"
	eventNotReady = "ClassNotReady"
)

// shownMachines is how many machines are named in a message.
const shownMachines = 5

// Observed is everything that a decision is made from.
type Observed struct {
	Class *v1alpha2.VirtualMachineClass
	Now   time.Time
	// Nodes are all nodes of the cluster.
	Nodes []Node
	// Machines are those that name the class, as namespace/name, sorted; one of them is
	// enough as long as the class is not being deleted.
	Machines []string
	// Emulated tells that guests run without the help of the nodes' processors.
	Emulated bool
}

type plan = shared.Plan[*v1alpha2.VirtualMachineClass]

// decide is pure: equal observations give equal plans.
func decide(o Observed) plan {
	out := plan{Status: o.Class.DeepCopy()}
	out.Finalizer, out.FinalizerName = finalizerFor(o)
	status := &out.Status.Status
	conditions := shared.NewConditions(o.Class.Status.Conditions, o.Class.Generation, o.Now)
	showUse(conditions, o)
	verdict := judge(o, conditions, status)
	if verdict.problem == "" {
		conditions.True(v1alpha2.ConditionReady, verdict.reason, verdict.message)
		status.Phase = v1alpha2.ClassReady
	} else {
		conditions.False(v1alpha2.ConditionReady, verdict.reason, verdict.problem)
		status.Phase = v1alpha2.ClassPending
	}
	if o.Class.DeletionTimestamp != nil {
		status.Phase = v1alpha2.ClassTerminating
	}
	status.Conditions = conditions.List()
	status.ObservedGeneration = o.Class.Generation
	out.Events = eventsFor(o.Class, verdict)
	if out.Finalizer == shared.FinalizerRemove && o.Class.DeletionTimestamp != nil {
		// Nothing is left to tell, and nobody to tell it to.
		out.Status, out.Events = nil, nil
	}
	return out
}

// finalizerFor holds the class only while a machine names it. The finalizer that
// earlier releases used is taken away in a pass of its own.
func finalizerFor(o Observed) (shared.FinalizerChange, string) {
	held := func(name string) bool { return slices.Contains(o.Class.Finalizers, name) }
	switch {
	case len(o.Machines) == 0 && held(v1alpha2.FinalizerVMCleanup):
		return shared.FinalizerRemove, v1alpha2.FinalizerVMCleanup
	case len(o.Machines) == 0 && held(v1alpha2.FinalizerVMClassCleanup):
		return shared.FinalizerRemove, v1alpha2.FinalizerVMClassCleanup
	case len(o.Machines) > 0 && o.Class.DeletionTimestamp == nil:
		return shared.FinalizerAdd, v1alpha2.FinalizerVMClassCleanup
	}
	return shared.FinalizerKeep, ""
}

func showUse(conditions *shared.Conditions, o Observed) {
	if len(o.Machines) == 0 {
		conditions.False(v1alpha2.ConditionInUse, v1alpha2.ReasonNotInUse, "No machine names the class")
		return
	}
	message := "Machines name the class"
	// Who they are matters once somebody wants the class gone; to tell it earlier
	// would write the status again for every machine that comes.
	if o.Class.DeletionTimestamp != nil {
		message = "The class is deleted when these machines are gone or name another one: " + machineclass.Shown(o.Machines, shownMachines)
	}
	conditions.True(v1alpha2.ConditionInUse, v1alpha2.ReasonVirtualMachineClassInUse, message)
}

// verdict is what becomes of the condition Ready. A problem makes it False.
type verdict struct {
	reason  v1alpha2.ConditionReason
	message string
	problem string
}

// judge finds the nodes and puts them into the status.
func judge(o Observed, conditions *shared.Conditions, status *v1alpha2.VirtualMachineClassStatus) verdict {
	cpu := o.Class.Spec.CPU
	selector, err := machineclass.NodeSelector(o.Class.Spec.NodeSelector)
	if err == nil && cpu.Type == v1alpha2.CPUTypeDiscovery {
		_, err = machineclass.DiscoverySelector(cpu)
	}
	if err != nil {
		status.AvailableNodes, status.MaxAllocatableResources = nil, nil
		return verdict{reason: v1alpha2.ReasonNodeSelectorInvalid, problem: err.Error()}
	}
	discover(o, conditions, status)
	processor := machineclass.ProcessorOf(cpu, status.CPUFeatures.Enabled)
	search := newSearch(o, selector, processor)
	status.AvailableNodes = names(search.available)
	status.MaxAllocatableResources = maxAllocatable(search.available)
	status.CPUFeatures.NotEnabledCommon = nil
	if cpu.Type == v1alpha2.CPUTypeFeatures || cpu.Type == v1alpha2.CPUTypeDiscovery {
		status.CPUFeatures.NotEnabledCommon = processor.Unused(labelsOf(search.available))
	}
	err = sizing.CheckPolicies(o.Class.Spec.SizingPolicies)
	switch {
	case err != nil:
		return verdict{reason: v1alpha2.ReasonSizingPoliciesInvalid, problem: err.Error()}
	case cpu.Type == v1alpha2.CPUTypeDiscovery && len(status.CPUFeatures.Enabled) == 0:
		return verdict{reason: v1alpha2.ReasonNoCPUFeaturesEnabled,
			problem: "spec.cpu.discovery.nodeSelector: the chosen nodes share no processor features; choose others"}
	case len(search.available) == 0:
		return verdict{reason: v1alpha2.ReasonNoSuitableNodesFound, problem: search.explain(o)}
	}
	return verdict{reason: v1alpha2.ReasonSuitableNodesFound,
		message: fmt.Sprintf("%d of %d nodes can run machines of the class", len(search.available), len(o.Nodes)) + search.caution(cpu.Type)}
}

// discover decides which features guests see. Those of a discovery follow the nodes
// until the first machine names the class; a later change would give the machines of
// one class different processors.
func discover(o Observed, conditions *shared.Conditions, status *v1alpha2.VirtualMachineClassStatus) {
	cpu := o.Class.Spec.CPU
	switch cpu.Type {
	case v1alpha2.CPUTypeFeatures:
		status.CPUFeatures.Enabled = slices.Sorted(slices.Values(cpu.Features))
	case v1alpha2.CPUTypeDiscovery:
		discoverCommon(o, conditions, status)
		return
	default:
		status.CPUFeatures = v1alpha2.CPUFeatures{}
	}
	conditions.False(v1alpha2.ConditionDiscovered, v1alpha2.ReasonDiscoverySkip,
		fmt.Sprintf("A class of the type %s needs no discovery", cpu.Type))
}

func discoverCommon(o Observed, conditions *shared.Conditions, status *v1alpha2.VirtualMachineClassStatus) {
	enabled := status.CPUFeatures.Enabled
	if len(enabled) == 0 || len(o.Machines) == 0 {
		// The caller has made sure that the selector can be read. A node on which the
		// engine is down just now keeps its labels and its say.
		selector, _ := machineclass.DiscoverySelector(o.Class.Spec.CPU)
		enabled = machineclass.Common(labelsOf(choose(o.Nodes, func(node Node) bool {
			return selector.Matches(labels.Set(node.Labels))
		})))
		status.CPUFeatures.Enabled = enabled
	}
	if len(enabled) == 0 {
		conditions.False(v1alpha2.ConditionDiscovered, v1alpha2.ReasonDiscoveryFailed,
			"spec.cpu.discovery.nodeSelector: no chosen node runs machines, or the chosen nodes share no feature")
		return
	}
	found := fmt.Sprintf("%d features were found; guests see them and the model %s. They ", len(enabled), machineclass.BaseModel)
	if len(o.Machines) == 0 {
		found += "follow the nodes until a machine names the class"
	} else {
		found += "stay as they are while machines name the class"
	}
	conditions.True(v1alpha2.ConditionDiscovered, v1alpha2.ReasonDiscoverySucceeded, found)
}

// eventsFor tells a change of the condition Ready, once.
func eventsFor(class *v1alpha2.VirtualMachineClass, v verdict) []shared.Event {
	before := meta.FindStatusCondition(class.Status.Conditions, v1alpha2.ConditionReady)
	if before != nil && before.Reason == v.reason {
		return nil
	}
	if v.problem != "" {
		return []shared.Event{{Type: corev1.EventTypeWarning, Reason: eventNotReady, Message: v.problem}}
	}
	return []shared.Event{{Type: corev1.EventTypeNormal, Reason: eventReady, Message: v.message}}
}
