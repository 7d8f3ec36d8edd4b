// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package machineclass

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestCheckProcessor(t *testing.T) {
	tests := []struct {
		name string
		cpu  v1alpha2.ClassCPU
		want string
	}{
		{name: "host", cpu: v1alpha2.ClassCPU{Type: "Host"}},
		{name: "model", cpu: v1alpha2.ClassCPU{Type: "Model", Model: "Skylake-Client-noTSX-IBRS"}},
		{name: "features", cpu: v1alpha2.ClassCPU{Type: "Features", Features: []string{"sse4.1", "lahf_lm", "3dnow"}}},
		{
			name: "the engine's word for the host", cpu: v1alpha2.ClassCPU{Type: "Model", Model: "host-model"},
			want: "spec.cpu.model: host-model is no model; use the type Host",
		},
		{
			name: "the engine's word for passthrough", cpu: v1alpha2.ClassCPU{Type: "Model", Model: "host-passthrough"},
			want: "spec.cpu.model: host-passthrough is no model; use the type HostPassthrough",
		},
		{name: "no name", cpu: v1alpha2.ClassCPU{Type: "Model", Model: "Intel Xeon"}, want: `spec.cpu.model: "Intel Xeon" is no model's name (`},
		{
			name: "list in one", cpu: v1alpha2.ClassCPU{Type: "Features", Features: []string{"aes", "vmx, avx"}},
			want: `spec.cpu.features[1]: "vmx, avx" is no feature's name (`,
		},
		{name: "empty feature", cpu: v1alpha2.ClassCPU{Type: "Features", Features: []string{""}}, want: `spec.cpu.features[0]: "" is no feature's name (`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if err := CheckProcessor(test.cpu); err != nil {
				got = err.Error()
			}
			if (got == "") != (test.want == "") || !strings.HasPrefix(got, test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestDefault(t *testing.T) {
	class := func(name, mark string, minute int) v1alpha2.VirtualMachineClass {
		out := v1alpha2.VirtualMachineClass{ObjectMeta: metav1.ObjectMeta{
			Name: name, CreationTimestamp: metav1.Date(2026, 11, 22, 12, minute, 0, 0, time.UTC),
		}}
		if mark != "" {
			out.Annotations = map[string]string{"virtualmachineclass.virtualization.deckhouse.io/is-default-class": mark}
		}
		return out
	}
	leaving := class("leaving", "true", 9)
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(0, 0)}
	tests := []struct {
		name    string
		classes []v1alpha2.VirtualMachineClass
		want    string
	}{
		{name: "no classes"},
		{name: "none is marked", classes: []v1alpha2.VirtualMachineClass{class("a", "", 1), class("b", "false", 2)}},
		{name: "one", classes: []v1alpha2.VirtualMachineClass{class("a", "", 1), class("b", "true", 2)}, want: "b"},
		{name: "the newer of two", classes: []v1alpha2.VirtualMachineClass{class("a", "true", 2), class("b", "true", 1)}, want: "a"},
		{name: "of the same age", classes: []v1alpha2.VirtualMachineClass{class("b", "true", 1), class("a", "true", 1)}, want: "a"},
		{name: "one that is being deleted", classes: []v1alpha2.VirtualMachineClass{leaving, class("a", "true", 1)}, want: "a"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := ""
			if found := Default(test.classes); found != nil {
				got = found.Name
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestNodeSelector(t *testing.T) {
	expression := func(key string, operator corev1.NodeSelectorOperator, values ...string) []corev1.NodeSelectorRequirement {
		return []corev1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}
	}
	tests := []struct {
		name     string
		selector v1alpha2.NodeSelector
		matches  string
		err      string
	}{
		{name: "nothing asked", matches: "a b c"},
		{name: "labels", selector: v1alpha2.NodeSelector{MatchLabels: map[string]string{"zone": "1"}}, matches: "a b"},
		{name: "in", selector: v1alpha2.NodeSelector{MatchExpressions: expression("zone", "In", "1", "3")}, matches: "a b"},
		{name: "not in", selector: v1alpha2.NodeSelector{MatchExpressions: expression("zone", "NotIn", "1")}, matches: "c"},
		{name: "exists", selector: v1alpha2.NodeSelector{MatchExpressions: expression("ssd", "Exists")}, matches: "b"},
		{name: "does not exist", selector: v1alpha2.NodeSelector{MatchExpressions: expression("ssd", "DoesNotExist")}, matches: "a c"},
		{name: "greater", selector: v1alpha2.NodeSelector{MatchExpressions: expression("zone", "Gt", "1")}, matches: "c"},
		{name: "less", selector: v1alpha2.NodeSelector{MatchExpressions: expression("zone", "Lt", "2")}, matches: "a b"},
		{
			name:     "both have to match",
			selector: v1alpha2.NodeSelector{MatchLabels: map[string]string{"zone": "1"}, MatchExpressions: expression("ssd", "Exists")},
			matches:  "b",
		},
		{name: "no number", selector: v1alpha2.NodeSelector{MatchExpressions: expression("zone", "Gt", "many")}, err: "spec.nodeSelector.matchExpressions[0]: "},
		{name: "no such operator", selector: v1alpha2.NodeSelector{MatchExpressions: expression("zone", "Like", "x")}, err: `operator: "Like" is unknown`},
		{name: "no label", selector: v1alpha2.NodeSelector{MatchLabels: map[string]string{"a b": "c"}}, err: "spec.nodeSelector.matchLabels[a b]: "},
	}
	nodes := map[string]labels.Set{"a": {"zone": "1"}, "b": {"zone": "1", "ssd": "yes"}, "c": {"zone": "2"}}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			selector, err := NodeSelector(test.selector)
			if (err != nil) != (test.err != "") || (err != nil && !strings.Contains(err.Error(), test.err)) {
				t.Fatalf("error %v, want %q", err, test.err)
			}
			if err != nil {
				return
			}
			var matches []string
			for _, name := range []string{"a", "b", "c"} {
				if selector.Matches(nodes[name]) {
					matches = append(matches, name)
				}
			}
			if got := strings.Join(matches, " "); got != test.matches {
				t.Errorf("matches %q, want %q", got, test.matches)
			}
		})
	}
}

func TestDiscoverySelector(t *testing.T) {
	all, err := DiscoverySelector(v1alpha2.ClassCPU{Type: "Discovery"})
	if err != nil || !all.Matches(labels.Set{}) {
		t.Errorf("without a selector every node is asked: %v", err)
	}
	cpu := v1alpha2.ClassCPU{Type: "Discovery", Discovery: &v1alpha2.CPUDiscovery{}}
	cpu.Discovery.NodeSelector.MatchLabels = map[string]string{"zone": "1"}
	some, err := DiscoverySelector(cpu)
	if err != nil || some.Matches(labels.Set{"zone": "2"}) || !some.Matches(labels.Set{"zone": "1"}) {
		t.Errorf("the selector %v, %v", some, err)
	}
	cpu.Discovery.NodeSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "zone", Operator: "Near"}}
	if _, err := DiscoverySelector(cpu); err == nil || !strings.HasPrefix(err.Error(), "spec.cpu.discovery.nodeSelector: ") {
		t.Errorf("an unknown operator: %v", err)
	}
}
