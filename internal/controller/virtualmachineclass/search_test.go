// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachineclass

import (
	"maps"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// like makes a node of words: model:Nehalem, host:EPYC, vendor:AMD, zone:a, and
// features.
func like(name, words string) Node {
	prefixes := map[string]string{
		"model": "cpu-model.node.kubevirt.io/", "host": "host-model-cpu.node.kubevirt.io/", "vendor": "cpu-vendor.node.kubevirt.io/",
	}
	var labels []string
	for _, word := range strings.Fields(words) {
		what, value, found := strings.Cut(word, ":")
		switch {
		case word == "obsolete":
			labels = append(labels, "node-labeller.kubevirt.io/obsolete-host-model=true")
		case word == "down":
			labels = append(labels, "kubevirt.io/schedulable=false")
		case !found:
			labels = append(labels, "cpu-feature.node.kubevirt.io/"+word+"=true")
		case prefixes[what] != "":
			labels = append(labels, prefixes[what]+value+"=true")
		default:
			labels = append(labels, what+"="+value)
		}
	}
	return node(name, "4", "8Gi", labels...)
}

// unable makes a node whose processor does not help guests.
func unable(name string) Node {
	made := like(name, "host:EPYC")
	made.Allocatable = maps.Clone(made.Allocatable)
	made.Allocatable["devices.kubevirt.io/kvm"] = resource.MustParse("0")
	return made
}

// When kubelet has started there are no devices before the engine's agent comes.
func TestAStartOfKubeletIsNoLackOfKVM(t *testing.T) {
	restarting := unable("a")
	restarting.Capacity = corev1.ResourceList{"devices.kubevirt.io/kvm": resource.MustParse("0")}
	if restarting.lacksKVM() {
		t.Error("the processor is said to give no help")
	}
	restarting.Capacity["devices.kubevirt.io/kvm"] = resource.MustParse("1k")
	if !restarting.lacksKVM() {
		t.Error("devices that can't be used are said to help")
	}
}

func TestReadySaysWhatToDo(t *testing.T) {
	features := v1alpha2.ClassCPU{Type: "Features", Features: []string{"aes", "vmx", "xsave"}}
	model := v1alpha2.ClassCPU{Type: "Model", Model: "IvyBridge"}
	many := "model:A model:B model:C model:D model:E model:F model:G model:H model:I model:J"
	for _, tc := range []struct {
		name     string
		cpu      v1alpha2.ClassCPU
		emulated bool
		nodes    []Node
		ready    string
		message  string
	}{
		{
			name: "no help of the processor", cpu: v1alpha2.ClassCPU{Type: "Host"}, nodes: []Node{unable("a"), unable("b")},
			ready: "False/NoSuitableNodesFound", message: "No node that the class selects gives guests hardware virtualization (/dev/kvm): a, b; switch on VT-x",
		},
		{
			name: "help on some", cpu: v1alpha2.ClassCPU{Type: "Host"}, nodes: []Node{unable("a"), like("b", "host:EPYC")},
			ready: "True/SuitableNodesFound", message: "1 of 2 nodes can run machines of the class; selected nodes without hardware virtualization (/dev/kvm) are left out: a; switch on",
		},
		{
			name: "no help needed", cpu: v1alpha2.ClassCPU{Type: "Host"}, emulated: true, nodes: []Node{unable("a")},
			ready: "True/SuitableNodesFound", message: "1 of 1 nodes can run machines of the class",
		},
		{
			name: "the host's model", cpu: v1alpha2.ClassCPU{Type: "Host"}, nodes: []Node{like("a", "host:EPYC"), like("b", "host:Opteron_G2 obsolete")},
			ready: "True/SuitableNodesFound", message: "1 of 2 nodes can run machines of the class",
		},
		{
			name: "the host's model is too old", cpu: v1alpha2.ClassCPU{Type: "Host"}, nodes: []Node{like("a", "obsolete")},
			ready: "False/NoSuitableNodesFound", message: "spec.cpu.type: the processors of the chosen nodes are older than the oldest model",
		},
		{
			name: "passthrough", cpu: v1alpha2.ClassCPU{Type: "HostPassthrough"}, nodes: []Node{like("a", "obsolete aes"), like("b", "obsolete aes")},
			ready: "True/SuitableNodesFound", message: "2 of 2 nodes can run machines of the class",
		},
		{
			name: "passthrough of different processors", cpu: v1alpha2.ClassCPU{Type: "HostPassthrough"},
			nodes: []Node{like("a", "host:EPYC aes"), like("b", "host:EPYC")}, ready: "True/SuitableNodesFound",
			message: "2 of 2 nodes can run machines of the class; their processors differ, and a running machine can be moved only between like ones",
		},
		{
			name: "passthrough of an emulator", cpu: v1alpha2.ClassCPU{Type: "HostPassthrough"}, emulated: true, nodes: []Node{like("a", "aes")},
			ready: "False/NoSuitableNodesFound", message: "spec.cpu.type: guests are emulated in software here",
		},
		{
			name: "an emulated host's model", cpu: v1alpha2.ClassCPU{Type: "Host"}, emulated: true, nodes: []Node{like("a", "host:EPYC")},
			ready: "True/SuitableNodesFound", message: "1 of 1 nodes can run machines of the class",
		},
		{
			name: "model of two makers", cpu: model, nodes: []Node{like("a", "vendor:Intel model:IvyBridge"), like("b", "vendor:AMD model:IvyBridge")},
			ready:   "True/SuitableNodesFound",
			message: "their processors are made by AMD and Intel, and a running machine should not be moved from one to the other",
		},
		{
			name: "two makers of which one cannot", cpu: model, nodes: []Node{like("a", "vendor:Intel model:IvyBridge"), like("b", "vendor:AMD")},
			ready: "True/SuitableNodesFound", message: "1 of 2 nodes can run machines of the class",
		},
		{
			name: "model that nobody offers", cpu: model, nodes: []Node{like("a", "model:Penryn model:Nehalem"), like("b", "model:Nehalem")},
			ready:   "False/NoSuitableNodesFound",
			message: "spec.cpu.model: no chosen node can show the model IvyBridge to guests; make a class with another model: the nodes offer Nehalem, Penryn",
		},
		{
			name: "one of many models", cpu: model, nodes: []Node{like("a", many)}, ready: "False/NoSuitableNodesFound",
			message: "the nodes offer A, B, C, D, E, F, G, H and 2 more",
		},
		{
			name: "nodes that were not looked at yet", cpu: model, nodes: []Node{like("a", "")}, ready: "False/NoSuitableNodesFound",
			message: "make a class with another model: the nodes offer none yet (labels cpu-model.node.kubevirt.io/<model>)",
		},
		{
			name: "features", cpu: features, nodes: []Node{like("a", "model:Nehalem aes vmx xsave"), like("b", "model:Penryn aes vmx xsave")},
			ready: "True/SuitableNodesFound", message: "1 of 2 nodes can run machines of the class",
		},
		{
			name: "missing features", cpu: features, nodes: []Node{like("a", "model:Nehalem"), like("b", "model:Nehalem vmx aes")},
			ready:   "False/NoSuitableNodesFound",
			message: "spec.cpu: no chosen node has all the features; node b, which has most, lacks xsave; make a class without them",
		},
		{
			name: "features without their model", cpu: features, nodes: []Node{like("a", "model:Penryn aes vmx xsave")}, ready: "False/NoSuitableNodesFound",
			message: "spec.cpu: features are added to the model Nehalem, and no chosen node can show that",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			got := decide(Observed{Class: class(tc.cpu), Now: now, Nodes: tc.nodes, Emulated: tc.emulated})
			checkCondition(t, got.Status.Status.Conditions, "Ready", tc.ready)
			message := meta.FindStatusCondition(got.Status.Status.Conditions, "Ready").Message
			if !strings.Contains(message, tc.message) {
				t.Errorf("got %q, want it to hold %q", message, tc.message)
			}
			if plain := "nodes can run machines of the class"; strings.HasSuffix(tc.message, plain) && !strings.HasSuffix(message, plain) {
				t.Errorf("got %q, want no caution", message)
			}
		})
	}
}

func discovering(enabled ...string) *v1alpha2.VirtualMachineClass {
	cpu := v1alpha2.ClassCPU{Type: "Discovery", Discovery: &v1alpha2.CPUDiscovery{
		NodeSelector: metav1.LabelSelector{MatchLabels: map[string]string{"zone": "a"}},
	}}
	return class(cpu, func(c *v1alpha2.VirtualMachineClass) { c.Status.CPUFeatures.Enabled = enabled })
}

func TestDiscovery(t *testing.T) {
	a, b := like("a", "zone:a model:Nehalem lm aes avx xsave invtsc"), like("b", "zone:a model:Nehalem lm aes xsave invtsc")
	elsewhere := like("c", "zone:b model:Nehalem lm aes vmx xsave")
	for _, tc := range []struct {
		name      string
		class     *v1alpha2.VirtualMachineClass
		machines  []string
		nodes     []Node
		enabled   string
		unused    string
		available string
		found     string
	}{
		{
			name: "what the chosen nodes share", class: discovering(), nodes: []Node{a, b, elsewhere},
			enabled: "aes lm xsave", available: "a b c", found: "3 features were found; guests see them and the model Nehalem. They follow the nodes",
		},
		{
			name: "a node more, and nobody uses the class", class: discovering("aes", "avx", "lm", "xsave"), nodes: []Node{a, b},
			enabled: "aes lm xsave", unused: "invtsc", available: "a b", found: "follow the nodes until a machine names the class",
		},
		{
			name: "a node more, and the class is used", class: discovering("aes", "avx", "lm", "xsave"), nodes: []Node{a, b}, machines: []string{"team/web"},
			enabled: "aes avx lm xsave", unused: "invtsc", available: "a", found: "stay as they are while machines name the class",
		},
		{
			name: "used before anything was found", class: discovering(), nodes: []Node{a}, machines: []string{"team/web"},
			enabled: "aes avx lm xsave", unused: "invtsc", available: "a", found: "stay as they are",
		},
		{
			name: "better nodes, and the class is used", class: discovering("aes"), nodes: []Node{a}, machines: []string{"team/web"},
			enabled: "aes", unused: "avx invtsc xsave", available: "a", found: "1 features were found",
		},
		{
			name: "a node that is down keeps its say", class: discovering(), nodes: []Node{a, like("b", "zone:a model:Nehalem lm aes down")},
			enabled: "aes lm", unused: "avx invtsc xsave", available: "a", found: "2 features were found",
		},
		{
			name: "a node that cannot show the model has none", class: discovering(), nodes: []Node{b, like("old", "zone:a model:Penryn lm")},
			enabled: "aes lm xsave", unused: "invtsc", available: "b", found: "3 features were found",
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			observed := Observed{Class: tc.class, Now: now, Nodes: tc.nodes, Machines: tc.machines}
			got := decide(observed)
			features := got.Status.Status.CPUFeatures
			if enabled := strings.Join(features.Enabled, " "); enabled != tc.enabled {
				t.Errorf("enabled: %q, want %q", enabled, tc.enabled)
			}
			if unused := strings.Join(features.NotEnabledCommon, " "); unused != tc.unused {
				t.Errorf("not enabled: %q, want %q", unused, tc.unused)
			}
			if available := strings.Join(got.Status.Status.AvailableNodes, " "); available != tc.available {
				t.Errorf("available nodes: %q, want %q", available, tc.available)
			}
			found := meta.FindStatusCondition(got.Status.Status.Conditions, "Discovered")
			if found.Status != "True" || !strings.Contains(found.Message, tc.found) {
				t.Errorf("Discovered: %s %q", found.Status, found.Message)
			}
			observed.Class, observed.Now = got.Status, now.Add(time.Hour)
			if again := decide(observed); strings.Join(again.Status.Status.CPUFeatures.Enabled, " ") != tc.enabled || len(again.Events) != 0 {
				t.Errorf("the second decision: %v, %v", again.Status.Status.CPUFeatures, again.Events)
			}
		})
	}
}

func TestUnusedDiscoveryLosesItsNodes(t *testing.T) {
	got := decide(Observed{Class: discovering("aes"), Now: now, Nodes: []Node{like("c", "zone:b model:Nehalem aes")}})
	checkCondition(t, got.Status.Status.Conditions, "Discovered", "False/DiscoveryFailed")
	checkCondition(t, got.Status.Status.Conditions, "Ready", "False/NoCpuFeaturesEnabled")
	if enabled := got.Status.Status.CPUFeatures.Enabled; len(enabled) != 0 {
		t.Errorf("features of no node: %q", enabled)
	}
}

// A class that has no features of its own shows none, whatever an earlier release
// left there.
func TestOtherTypesShowNoFeatures(t *testing.T) {
	for _, cpu := range []v1alpha2.ClassCPU{{Type: "Host"}, {Type: "HostPassthrough"}, {Type: "Model", Model: "Nehalem"}} {
		stale := class(cpu, func(c *v1alpha2.VirtualMachineClass) {
			c.Status.CPUFeatures = v1alpha2.CPUFeatures{Enabled: []string{"aes"}, NotEnabledCommon: []string{"vmx"}}
		})
		got := decide(Observed{Class: stale, Now: now, Nodes: []Node{like("a", "model:Nehalem aes vmx avx")}}).Status.Status.CPUFeatures
		if len(got.Enabled) != 0 || len(got.NotEnabledCommon) != 0 {
			t.Errorf("%s: %v", cpu.Type, got)
		}
	}
}
