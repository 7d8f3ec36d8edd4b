// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
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
	// Machines are those that name the class, as namespace/name, sorted.
	Machines []string
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
		message = "The class is deleted when these machines are gone or name another one: " + shownNames(o.Machines)
	}
	conditions.True(v1alpha2.ConditionInUse, v1alpha2.ReasonVirtualMachineClassInUse, message)
}

func shownNames(machines []string) string {
	shown := machines[:min(len(machines), shownMachines)]
	text := strings.Join(shown, ", ")
	if more := len(machines) - len(shown); more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// verdict is what becomes of the condition Ready. A problem makes it False.
type verdict struct {
	reason  v1alpha2.ConditionReason
	message string
	problem string
}

// judge finds the nodes and puts them into the status.
func judge(o Observed, conditions *shared.Conditions, status *v1alpha2.VirtualMachineClassStatus) verdict {
	selector, err := classSelector(o.Class.Spec.NodeSelector)
	if err == nil && o.Class.Spec.CPU.Type == v1alpha2.CPUTypeDiscovery {
		_, err = discoverySelector(o.Class.Spec.CPU)
	}
	if err != nil {
		status.AvailableNodes, status.MaxAllocatableResources = nil, nil
		return verdict{reason: v1alpha2.ReasonNodeSelectorInvalid, problem: err.Error()}
	}
	capable := choose(o.Nodes, Node.canRunMachines)
	discover(o, capable, conditions, status)
	available := choose(capable, func(node Node) bool {
		return selector.Matches(labels.Set(node.Labels)) && fits(o.Class.Spec.CPU, status.CPUFeatures.Enabled, node)
	})
	status.AvailableNodes = names(available)
	status.MaxAllocatableResources = maxAllocatable(available)
	switch problem := sizingProblem(o.Class.Spec.SizingPolicies); {
	case problem != "":
		return verdict{reason: v1alpha2.ReasonSizingPoliciesInvalid, problem: problem}
	case o.Class.Spec.CPU.Type == v1alpha2.CPUTypeDiscovery && len(status.CPUFeatures.Enabled) == 0:
		return verdict{reason: v1alpha2.ReasonNoCPUFeaturesEnabled,
			problem: "spec.cpu.discovery.nodeSelector: the chosen nodes share no processor features; choose others"}
	case len(available) == 0:
		return verdict{reason: v1alpha2.ReasonNoSuitableNodesFound, problem: explainNoNodes(o, capable, selector, status.CPUFeatures.Enabled)}
	}
	return verdict{reason: v1alpha2.ReasonSuitableNodesFound,
		message: fmt.Sprintf("%d of %d nodes can run machines of the class", len(available), len(o.Nodes))}
}

// fits tells whether guests of the class get the processor they are promised there.
func fits(cpu v1alpha2.ClassCPU, enabled []string, node Node) bool {
	switch cpu.Type {
	case v1alpha2.CPUTypeModel:
		return node.Labels[prefixCPUModel+cpu.Model] == labelYes
	case v1alpha2.CPUTypeFeatures, v1alpha2.CPUTypeDiscovery:
		return node.hasFeatures(enabled)
	default:
		return true
	}
}

// explainNoNodes names the narrowest gate that no node passes.
func explainNoNodes(o Observed, capable []Node, selector labels.Selector, features []string) string {
	switch {
	case len(capable) == 0:
		return fmt.Sprintf("None of the %d nodes is ready to run machines (label %s=true); look at the module's pods on the nodes",
			len(o.Nodes), labelSchedulable)
	case len(choose(capable, func(node Node) bool { return selector.Matches(labels.Set(node.Labels)) })) == 0:
		return fmt.Sprintf("spec.nodeSelector: none of the %d nodes that run machines matches; change it or label nodes", len(capable))
	case o.Class.Spec.CPU.Type == v1alpha2.CPUTypeModel:
		return fmt.Sprintf("spec.cpu.model: no chosen node can show the model %s to guests; make a class with another model, "+
			"which nodes can is in their labels %s<model>", o.Class.Spec.CPU.Model, prefixCPUModel)
	default:
		return fmt.Sprintf("spec.cpu: no chosen node has all the features %s; make a class with fewer of them",
			strings.Join(features, ", "))
	}
}

// discover decides which features guests see. Those of a discovery are looked up
// once: a later change would move running guests to another processor.
func discover(o Observed, capable []Node, conditions *shared.Conditions, status *v1alpha2.VirtualMachineClassStatus) {
	cpu := o.Class.Spec.CPU
	switch cpu.Type {
	case v1alpha2.CPUTypeFeatures:
		status.CPUFeatures.Enabled = slices.Sorted(slices.Values(cpu.Features))
	case v1alpha2.CPUTypeDiscovery:
		discoverCommon(cpu, capable, conditions, status)
		return
	default:
		status.CPUFeatures = v1alpha2.CPUFeatures{}
	}
	conditions.False(v1alpha2.ConditionDiscovered, v1alpha2.ReasonDiscoverySkip,
		fmt.Sprintf("A class of the type %s needs no discovery", cpu.Type))
}

func discoverCommon(cpu v1alpha2.ClassCPU, capable []Node, conditions *shared.Conditions, status *v1alpha2.VirtualMachineClassStatus) {
	if len(status.CPUFeatures.Enabled) == 0 {
		// The caller has made sure that the selector can be read.
		selector, _ := discoverySelector(cpu)
		status.CPUFeatures.Enabled = commonFeatures(choose(capable, func(node Node) bool {
			return selector.Matches(labels.Set(node.Labels))
		}))
	}
	if len(status.CPUFeatures.Enabled) == 0 {
		conditions.False(v1alpha2.ConditionDiscovered, v1alpha2.ReasonDiscoveryFailed,
			"spec.cpu.discovery.nodeSelector: no chosen node runs machines, or the chosen nodes share no feature")
		return
	}
	conditions.True(v1alpha2.ConditionDiscovered, v1alpha2.ReasonDiscoverySucceeded,
		fmt.Sprintf("%d features were found", len(status.CPUFeatures.Enabled)))
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
