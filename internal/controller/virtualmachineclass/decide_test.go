// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func class(cpu v1alpha2.ClassCPU, changes ...func(*v1alpha2.VirtualMachineClass)) *v1alpha2.VirtualMachineClass {
	out := &v1alpha2.VirtualMachineClass{
		ObjectMeta: metav1.ObjectMeta{Name: "generic", Generation: 3},
		Spec:       v1alpha2.VirtualMachineClassSpec{CPU: cpu},
	}
	for _, change := range changes {
		change(out)
	}
	return out
}

// node has the labels, given as key=value, and runs machines.
func node(name, cpu, memory string, labels ...string) Node {
	out := Node{
		Name:        name,
		Labels:      map[string]string{"kubevirt.io/schedulable": "true"},
		Allocatable: corev1.ResourceList{"cpu": resource.MustParse(cpu), "memory": resource.MustParse(memory), "pods": resource.MustParse("110")},
	}
	for _, label := range labels {
		key, value, _ := strings.Cut(label, "=")
		out.Labels[key] = value
	}
	return out
}

func selecting(labels map[string]string, expressions ...corev1.NodeSelectorRequirement) func(*v1alpha2.VirtualMachineClass) {
	return func(c *v1alpha2.VirtualMachineClass) {
		c.Spec.NodeSelector = v1alpha2.NodeSelector{MatchLabels: labels, MatchExpressions: expressions}
	}
}

func policies(ranges ...[2]int32) func(*v1alpha2.VirtualMachineClass) {
	return func(c *v1alpha2.VirtualMachineClass) {
		for _, r := range ranges {
			c.Spec.SizingPolicies = append(c.Spec.SizingPolicies,
				v1alpha2.SizingPolicy{Cores: v1alpha2.SizingPolicyCores{Min: r[0], Max: r[1]}})
		}
	}
}

func TestDecideReady(t *testing.T) {
	host := v1alpha2.ClassCPU{Type: "Host"}
	model := v1alpha2.ClassCPU{Type: "Model", Model: "Nehalem"}
	features := v1alpha2.ClassCPU{Type: "Features", Features: []string{"vmx", "aes"}}
	discovery := v1alpha2.ClassCPU{Type: "Discovery", Discovery: &v1alpha2.CPUDiscovery{
		NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{"zone": "a"}},
	}}
	const aes, vmx, nehalem = "cpu-feature.node.kubevirt.io/aes=true", "cpu-feature.node.kubevirt.io/vmx=true", "cpu-model.node.kubevirt.io/Nehalem=true"
	nodes := []Node{
		node("node-2", "4", "8Gi", "zone=b", aes, vmx, nehalem),
		node("node-1", "8", "4Gi", "zone=a", aes, nehalem),
		node("node-3", "64", "1Ti", "zone=a", aes, nehalem, "kubevirt.io/schedulable=false"),
	}
	for _, tc := range []struct {
		name       string
		class      *v1alpha2.VirtualMachineClass
		nodes      []Node
		ready      string
		message    string
		phase      v1alpha2.ClassPhase
		available  string
		discovered string
		features   string
		event      string
	}{
		{
			name: "host", class: class(host), nodes: nodes, ready: "True/SuitableNodesFound", phase: "Ready", available: "node-1 node-2",
			message: "2 of 3 nodes can run machines", discovered: "False/DiscoverySkip", event: "Normal NodesFound",
		},
		{
			name: "host passthrough on chosen nodes", class: class(v1alpha2.ClassCPU{Type: "HostPassthrough"}, selecting(map[string]string{"zone": "b"})),
			nodes: nodes, ready: "True/SuitableNodesFound", phase: "Ready", available: "node-2", discovered: "False/DiscoverySkip", event: "Normal NodesFound",
		},
		{
			name:  "expressions",
			class: class(host, selecting(nil, corev1.NodeSelectorRequirement{Key: "zone", Operator: "NotIn", Values: []string{"b"}})),
			nodes: nodes, ready: "True/SuitableNodesFound", phase: "Ready", available: "node-1", discovered: "False/DiscoverySkip", event: "Normal NodesFound",
		},
		{
			name: "model", class: class(model), nodes: nodes, ready: "True/SuitableNodesFound", phase: "Ready", available: "node-1 node-2",
			discovered: "False/DiscoverySkip", event: "Normal NodesFound",
		},
		{
			name: "model that no node has", class: class(v1alpha2.ClassCPU{Type: "Model", Model: "Penryn"}), nodes: nodes,
			ready: "False/NoSuitableNodesFound", phase: "Pending", message: "spec.cpu.model: no chosen node can show the model Penryn to guests; make a class with another model: the nodes offer Nehalem",
			discovered: "False/DiscoverySkip", event: "Warning ClassNotReady",
		},
		{
			name: "features", class: class(features), nodes: nodes, ready: "True/SuitableNodesFound", phase: "Ready", available: "node-2",
			features: "aes vmx", discovered: "False/DiscoverySkip", event: "Normal NodesFound",
		},
		{
			name: "features that no node has", class: class(features), nodes: nodes[1:], ready: "False/NoSuitableNodesFound", phase: "Pending",
			message: "spec.cpu: no chosen node has all the features; node node-1, which has most, lacks vmx; make a class without them", features: "aes vmx", discovered: "False/DiscoverySkip", event: "Warning ClassNotReady",
		},
		{
			name: "discovery", class: class(discovery), nodes: nodes, ready: "True/SuitableNodesFound", phase: "Ready", available: "node-1 node-2",
			features: "aes", discovered: "True/DiscoverySucceeded", event: "Normal NodesFound",
		},
		{
			name: "discovery without nodes", class: class(discovery), nodes: nodes[:1], ready: "False/NoCpuFeaturesEnabled", phase: "Pending",
			message: "spec.cpu.discovery.nodeSelector", available: "node-2", discovered: "False/DiscoveryFailed", event: "Warning ClassNotReady",
		},
		{
			name: "no node runs machines", class: class(host), nodes: nodes[2:], ready: "False/NoSuitableNodesFound", phase: "Pending",
			message: "None of the 1 nodes is ready to run machines", discovered: "False/DiscoverySkip", event: "Warning ClassNotReady",
		},
		{
			name: "no node matches", class: class(host, selecting(map[string]string{"zone": "c"})), nodes: nodes,
			ready: "False/NoSuitableNodesFound", phase: "Pending", message: "spec.nodeSelector: none of the 2 nodes",
			discovered: "False/DiscoverySkip", event: "Warning ClassNotReady",
		},
		{
			name:  "unknown operator",
			class: class(host, selecting(nil, corev1.NodeSelectorRequirement{Key: "zone", Operator: "Near"})), nodes: nodes,
			ready: "False/NodeSelectorInvalid", phase: "Pending", message: `spec.nodeSelector.matchExpressions[0].operator: "Near" is unknown`,
			event: "Warning ClassNotReady",
		},
		{
			name:  "operator without values",
			class: class(host, selecting(nil, corev1.NodeSelectorRequirement{Key: "zone", Operator: "In"})), nodes: nodes,
			ready: "False/NodeSelectorInvalid", phase: "Pending", message: "spec.nodeSelector.matchExpressions[0]:", event: "Warning ClassNotReady",
		},
		{
			name:  "impossible label",
			class: class(host, selecting(map[string]string{"zone": "not a label"})), nodes: nodes,
			ready: "False/NodeSelectorInvalid", phase: "Pending", message: "spec.nodeSelector.matchLabels[zone]:", event: "Warning ClassNotReady",
		},
		{
			name: "impossible discovery", class: class(v1alpha2.ClassCPU{Type: "Discovery", Discovery: &v1alpha2.CPUDiscovery{
				NodeSelector: metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "zone", Operator: "Near"}}},
			}}), nodes: nodes,
			ready: "False/NodeSelectorInvalid", phase: "Pending", message: "spec.cpu.discovery.nodeSelector:", event: "Warning ClassNotReady",
		},
		{
			name: "good policies", class: class(host, policies([2]int32{1, 4}, [2]int32{5, 8})), nodes: nodes,
			ready: "True/SuitableNodesFound", phase: "Ready", available: "node-1 node-2", discovered: "False/DiscoverySkip", event: "Normal NodesFound",
		},
		{
			name: "overlapping policies", class: class(host, policies([2]int32{1, 4}, [2]int32{8, 16}, [2]int32{4, 7})), nodes: nodes,
			ready: "False/SizingPoliciesInvalid", phase: "Pending", available: "node-1 node-2", discovered: "False/DiscoverySkip",
			message: "spec.sizingPolicies[2].cores: 4-7 overlaps with spec.sizingPolicies[0].cores 1-4", event: "Warning ClassNotReady",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide(Observed{Class: tc.class, Now: now, Nodes: tc.nodes})
			status := got.Status.Status
			checkCondition(t, status.Conditions, "Ready", tc.ready)
			checkCondition(t, status.Conditions, "Discovered", tc.discovered)
			checkCondition(t, status.Conditions, "InUse", "False/NotInUse")
			if message := meta.FindStatusCondition(status.Conditions, "Ready").Message; !strings.Contains(message, tc.message) {
				t.Errorf("message: got %q, want it to hold %q", message, tc.message)
			}
			if status.Phase != tc.phase {
				t.Errorf("phase: got %q, want %q", status.Phase, tc.phase)
			}
			if nodes := strings.Join(status.AvailableNodes, " "); nodes != tc.available {
				t.Errorf("available nodes: got %q, want %q", nodes, tc.available)
			}
			if features := strings.Join(status.CPUFeatures.Enabled, " "); features != tc.features {
				t.Errorf("features: got %q, want %q", features, tc.features)
			}
			if events := eventsOf(got.Events); events != tc.event {
				t.Errorf("events: got %q, want %q", events, tc.event)
			}
			if got.Finalizer != shared.FinalizerKeep || status.ObservedGeneration != 3 {
				t.Errorf("finalizer %q, observed generation %d", got.Finalizer, status.ObservedGeneration)
			}
			if again := decide(Observed{Class: got.Status, Now: now.Add(time.Hour), Nodes: tc.nodes}); len(again.Events) != 0 ||
				fmt.Sprint(again.Status.Status) != fmt.Sprint(status) {
				t.Errorf("the second decision differs: %v\n%v\n%v", again.Events, again.Status.Status, status)
			}
		})
	}
}

func TestDecideMaxAllocatable(t *testing.T) {
	got := decide(Observed{Class: class(v1alpha2.ClassCPU{Type: "Host"}), Nodes: []Node{
		node("node-1", "8", "4Gi"), node("node-2", "4", "8Gi"), {Name: "node-3", Labels: map[string]string{"kubevirt.io/schedulable": "true"}},
	}}).Status.Status.MaxAllocatableResources
	if len(got) != 2 || got.Cpu().String() != "8" || got.Memory().String() != "8Gi" {
		t.Errorf("largest resources: %v", got)
	}
	if none := decide(Observed{Class: class(v1alpha2.ClassCPU{Type: "Host"})}).Status.Status.MaxAllocatableResources; none != nil {
		t.Errorf("resources of no node: %v", none)
	}
}

func TestDecideUse(t *testing.T) {
	const own, old = "virtualization.deckhouse.io/vmclass-cleanup", "virtualization.deckhouse.io/vm-cleanup"
	held := func(finalizers ...string) func(*v1alpha2.VirtualMachineClass) {
		return func(c *v1alpha2.VirtualMachineClass) { c.Finalizers = finalizers }
	}
	deleted := func(c *v1alpha2.VirtualMachineClass) { c.DeletionTimestamp = &metav1.Time{Time: now} }
	many := []string{"a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/7"}
	for _, tc := range []struct {
		name      string
		changes   []func(*v1alpha2.VirtualMachineClass)
		machines  []string
		inUse     string
		message   string
		finalizer shared.FinalizerChange
		which     string
		phase     v1alpha2.ClassPhase
		gone      bool
	}{
		{name: "free", inUse: "False/NotInUse", message: "No machine names the class", phase: "Ready"},
		{
			name: "used", machines: many[:2], inUse: "True/VirtualMachineClassInUse", message: "Machines name the class",
			finalizer: shared.FinalizerAdd, which: own, phase: "Ready",
		},
		{
			name: "used by many", machines: many, changes: []func(*v1alpha2.VirtualMachineClass){held(own)},
			inUse: "True/VirtualMachineClassInUse", message: "Machines name the class",
			finalizer: shared.FinalizerAdd, which: own, phase: "Ready",
		},
		{
			name: "used no more", changes: []func(*v1alpha2.VirtualMachineClass){held(own)},
			inUse: "False/NotInUse", finalizer: shared.FinalizerRemove, which: own, phase: "Ready",
		},
		{
			name: "left by an earlier release", changes: []func(*v1alpha2.VirtualMachineClass){held(own, old)},
			inUse: "False/NotInUse", finalizer: shared.FinalizerRemove, which: old, phase: "Ready",
		},
		{
			name: "deleted while used", machines: many[:1], changes: []func(*v1alpha2.VirtualMachineClass){held(own), deleted},
			inUse: "True/VirtualMachineClassInUse", phase: "Terminating",
			message: "The class is deleted when these machines are gone or name another one: a/1",
		},
		{
			name: "deleted while used by many", machines: many, changes: []func(*v1alpha2.VirtualMachineClass){held(own), deleted},
			inUse: "True/VirtualMachineClassInUse", phase: "Terminating", message: ": a/1, a/2, a/3, a/4, a/5 and 2 more",
		},
		{
			name: "deleted and used no more", changes: []func(*v1alpha2.VirtualMachineClass){held(own), deleted},
			finalizer: shared.FinalizerRemove, which: own, gone: true,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide(Observed{
				Class: class(v1alpha2.ClassCPU{Type: "Host"}, tc.changes...), Now: now, Machines: tc.machines, Nodes: []Node{node("node-1", "1", "1Gi")},
			})
			if got.Finalizer != tc.finalizer || got.FinalizerName != tc.which {
				t.Errorf("finalizer: %q %q", got.Finalizer, got.FinalizerName)
			}
			if (got.Status == nil) != tc.gone {
				t.Fatalf("status: %v", got.Status)
			}
			if tc.gone {
				return
			}
			checkCondition(t, got.Status.Status.Conditions, "InUse", tc.inUse)
			if message := meta.FindStatusCondition(got.Status.Status.Conditions, "InUse").Message; !strings.Contains(message, tc.message) {
				t.Errorf("message: %q", message)
			}
			if got.Status.Status.Phase != tc.phase {
				t.Errorf("phase: %q", got.Status.Status.Phase)
			}
		})
	}
}

func checkCondition(t *testing.T, conditions []metav1.Condition, conditionType, want string) {
	t.Helper()
	got := ""
	if found := meta.FindStatusCondition(conditions, conditionType); found != nil {
		got = string(found.Status) + "/" + found.Reason
	}
	if got != want {
		t.Errorf("%s: got %q, want %q", conditionType, got, want)
	}
}

func eventsOf(events []shared.Event) string {
	var out []string
	for _, event := range events {
		out = append(out, event.Type+" "+event.Reason)
	}
	return strings.Join(out, ", ")
}
