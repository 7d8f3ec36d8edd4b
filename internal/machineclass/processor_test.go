// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// node makes labels of words: model:Nehalem, host:EPYC, vendor:AMD, obsolete, and
// features.
func node(words string) map[string]string {
	labels := map[string]string{"kubevirt.io/schedulable": "true", "kubernetes.io/arch": "amd64"}
	for _, word := range strings.Fields(words) {
		what, name, found := strings.Cut(word, ":")
		switch {
		case word == "obsolete":
			labels["node-labeller.kubevirt.io/obsolete-host-model"] = "true"
		case !found:
			labels["cpu-feature.node.kubevirt.io/"+word] = "true"
		case what == "model":
			labels["cpu-model.node.kubevirt.io/"+name] = "true"
		case what == "host":
			labels["host-model-cpu.node.kubevirt.io/"+name] = "true"
		case what == "vendor":
			labels["cpu-vendor.node.kubevirt.io/"+name] = "true"
		}
	}
	return labels
}

func nodes(words ...string) []map[string]string {
	var out []map[string]string
	for _, text := range words {
		out = append(out, node(text))
	}
	return out
}

func TestProcessorOf(t *testing.T) {
	tests := []struct {
		name       string
		cpu        v1alpha2.ClassCPU
		discovered []string
		model      string
		features   string
	}{
		{name: "host", cpu: v1alpha2.ClassCPU{Type: "Host"}, model: "host-model"},
		{name: "host passthrough", cpu: v1alpha2.ClassCPU{Type: "HostPassthrough"}, model: "host-passthrough"},
		{name: "model", cpu: v1alpha2.ClassCPU{Type: "Model", Model: "IvyBridge"}, model: "IvyBridge"},
		{
			name: "features", cpu: v1alpha2.ClassCPU{Type: "Features", Features: []string{"vmx", "aes", "sse2", "aes"}},
			model: "Nehalem", features: "aes vmx",
		},
		{
			name: "discovery", cpu: v1alpha2.ClassCPU{Type: "Discovery"}, discovered: []string{"aes", "lm", "xsave"},
			model: "Nehalem", features: "aes xsave",
		},
		{
			name: "what was discovered is nothing to others", cpu: v1alpha2.ClassCPU{Type: "Model", Model: "IvyBridge"},
			discovered: []string{"aes"}, model: "IvyBridge",
		},
		{name: "a class from before its schema", model: "host-model"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ProcessorOf(test.cpu, test.discovered)
			if features := strings.Join(got.Features, " "); got.Model != test.model || features != test.features {
				t.Errorf("got %s with %q, want %s with %q", got.Model, features, test.model, test.features)
			}
		})
	}
}

func TestProcessorOfLeavesTheClassAlone(t *testing.T) {
	features := []string{"vmx", "sse2", "aes"}
	ProcessorOf(v1alpha2.ClassCPU{Type: "Features", Features: features}, nil)
	if got := strings.Join(features, " "); got != "vmx sse2 aes" {
		t.Errorf("the class's features became %q", got)
	}
}

func TestFitsNode(t *testing.T) {
	tests := []struct {
		name      string
		processor Processor
		labels    string
		fits      bool
		missing   string
	}{
		{name: "host", processor: Processor{Model: "host-model"}, labels: "host:EPYC", fits: true},
		{name: "host that is obsolete", processor: Processor{Model: "host-model"}, labels: "host:Opteron_G2 obsolete"},
		{name: "passthrough of anything", processor: Processor{Model: "host-passthrough"}, labels: "obsolete", fits: true},
		{name: "model", processor: Processor{Model: "Penryn"}, labels: "model:Penryn model:Nehalem", fits: true},
		{name: "model that is only the host's", processor: Processor{Model: "EPYC"}, labels: "host:EPYC model:Nehalem"},
		{name: "part of a name", processor: Processor{Model: "Nehalem"}, labels: "model:Nehalem-IBRS"},
		{name: "features", processor: Processor{Model: "Nehalem", Features: []string{"aes"}}, labels: "model:Nehalem aes", fits: true},
		{name: "features without the model", processor: Processor{Model: "Nehalem", Features: []string{"aes"}}, labels: "model:Penryn aes"},
		{
			name: "features of which some are missing", processor: Processor{Model: "Nehalem", Features: []string{"aes", "vmx", "xsave"}},
			labels: "model:Nehalem vmx", missing: "aes xsave",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := test.processor.FitsNode(node(test.labels)); got != test.fits {
				t.Errorf("fits: got %t", got)
			}
			if got := strings.Join(test.processor.Missing(node(test.labels)), " "); got != test.missing {
				t.Errorf("missing: got %q, want %q", got, test.missing)
			}
		})
	}
	labels := node("model:Nehalem")
	labels["cpu-model.node.kubevirt.io/Nehalem"] = "false"
	if (Processor{Model: "Nehalem"}).FitsNode(labels) {
		t.Error("a label that says no counts as yes")
	}
}

func TestCommon(t *testing.T) {
	tests := []struct {
		name  string
		nodes []map[string]string
		want  string
	}{
		{name: "no nodes"},
		{name: "one node", nodes: nodes("model:Nehalem xsave aes"), want: "aes xsave"},
		{name: "intersection", nodes: nodes("model:Nehalem aes xsave", "model:Nehalem vmx aes", "model:Nehalem aes"), want: "aes"},
		{name: "nothing shared", nodes: nodes("model:Nehalem aes", "model:Nehalem vmx")},
		{name: "what ties a guest to its node", nodes: nodes("model:Nehalem aes invtsc", "model:Nehalem aes invtsc"), want: "aes"},
		{name: "a node without the base model has no say", nodes: nodes("model:Nehalem aes xsave", "model:Penryn aes"), want: "aes xsave"},
		{name: "only nodes without the base model", nodes: nodes("model:Penryn aes")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(Common(test.nodes), " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestUnused(t *testing.T) {
	processor := Processor{Model: "Nehalem", Features: []string{"aes"}}
	tests := []struct {
		name  string
		nodes []map[string]string
		want  string
	}{
		{name: "no nodes"},
		{name: "beyond the base model", nodes: nodes("sse2 lm aes xsave invtsc"), want: "invtsc xsave"},
		{name: "what all have", nodes: nodes("aes avx xsave", "aes avx vmx"), want: "avx"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := strings.Join(processor.Unused(test.nodes), " "); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestLabelsTell(t *testing.T) {
	labels := node("model:Westmere model:Nehalem host:EPYC vendor:AMD xsave aes")
	if got := strings.Join(Models(labels), " "); got != "Nehalem Westmere" {
		t.Errorf("models: %q", got)
	}
	if got := strings.Join(Features(labels), " "); got != "aes xsave" {
		t.Errorf("features: %q", got)
	}
	if got := Vendor(labels); got != "AMD" {
		t.Errorf("vendor: %q", got)
	}
	if got := Vendor(node("aes")); got != "" {
		t.Errorf("vendor of a node that nobody labelled: %q", got)
	}
	like, other := node("vendor:AMD host:EPYC aes xsave"), node("vendor:AMD host:EPYC-Rome aes xsave")
	if Kind(labels) != Kind(like) {
		t.Error("nodes with the same processor differ")
	}
	if Kind(labels) == Kind(other) || Kind(like) == Kind(node("vendor:AMD host:EPYC aes")) {
		t.Error("nodes with other processors are told to be alike")
	}
}
