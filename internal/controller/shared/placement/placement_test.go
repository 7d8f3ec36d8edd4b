// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package placement

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

func node(name string, labels map[string]string, taints ...corev1.Taint) corev1.Node {
	all := map[string]string{"kubevirt.io/schedulable": "true", "kubernetes.io/hostname": name}
	for key, value := range labels {
		all[key] = value
	}
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: all}, Spec: corev1.NodeSpec{Taints: taints}}
}

func guest(changes ...func(*virtv1.VirtualMachineInstance)) *virtv1.VirtualMachineInstance {
	out := &virtv1.VirtualMachineInstance{}
	out.Status.NodeName = "a"
	out.Spec.Domain.CPU = &virtv1.CPU{Model: "Nehalem"}
	for _, change := range changes {
		change(out)
	}
	return out
}

func model(name string) func(*virtv1.VirtualMachineInstance) {
	return func(g *virtv1.VirtualMachineInstance) { g.Spec.Domain.CPU.Model = name }
}

func affinityTo(terms ...corev1.NodeSelectorTerm) func(*virtv1.VirtualMachineInstance) {
	return func(g *virtv1.VirtualMachineInstance) {
		g.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
		}}
	}
}

func expression(key string, operator corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorRequirement {
	return corev1.NodeSelectorRequirement{Key: key, Operator: operator, Values: values}
}

func TestOthers(t *testing.T) {
	nehalem := map[string]string{"cpu-model.node.kubevirt.io/Nehalem": "true", "cpu-feature.node.kubevirt.io/aes": "true", "disk": "ssd", "rank": "5"}
	sky := map[string]string{
		"host-model-cpu.node.kubevirt.io/Skylake": "true", "host-model-required-features.node.kubevirt.io/avx": "true",
		"cpu-model-migration.node.kubevirt.io/Skylake": "true", "cpu-feature.node.kubevirt.io/avx": "true",
	}
	ice := map[string]string{
		"host-model-cpu.node.kubevirt.io/Icelake": "true", "cpu-model-migration.node.kubevirt.io/Icelake": "true",
		"cpu-model-migration.node.kubevirt.io/Skylake": "true", "cpu-feature.node.kubevirt.io/avx": "true",
	}
	dedicated := corev1.Taint{Key: "dedicated", Value: "db", Effect: "NoSchedule"}
	cordoned := corev1.Taint{Key: "node.kubernetes.io/unschedulable", Effect: "NoSchedule"}
	tests := []struct {
		name  string
		guest *virtv1.VirtualMachineInstance
		nodes []corev1.Node
		want  []string
	}{
		{"the only node", guest(), []corev1.Node{node("a", nehalem)}, nil},
		{"sorted", guest(), []corev1.Node{node("c", nehalem), node("a", nehalem), node("b", nehalem)}, []string{"b", "c"}},
		{"another processor", guest(), []corev1.Node{node("a", nehalem), node("b", sky)}, nil},
		{"a node without the engine", guest(), []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "b", Labels: nehalem}}}, nil},
		{
			"a feature that is required", guest(func(g *virtv1.VirtualMachineInstance) {
				g.Spec.Domain.CPU.Features = []virtv1.CPUFeature{{Name: "aes", Policy: "require"}, {Name: "vmx", Policy: "disable"}}
			}),
			[]corev1.Node{node("b", nehalem), node("c", map[string]string{"cpu-model.node.kubevirt.io/Nehalem": "true"})}, []string{"b"},
		},
		{"host model on a newer node", guest(model("host-model")), []corev1.Node{node("a", sky), node("b", ice)}, []string{"b"}},
		{"host model on an older node", guest(model("host-model")), []corev1.Node{node("a", ice), node("b", sky)}, nil},
		{"no model is the host's", guest(model("")), []corev1.Node{node("a", ice), node("b", sky)}, nil},
		{"passthrough on another processor", guest(model("host-passthrough")), []corev1.Node{node("a", sky), node("b", ice)}, nil},
		{"passthrough on the same", guest(model("host-passthrough")), []corev1.Node{node("a", sky), node("b", sky)}, []string{"b"}},
		{"own node unknown", guest(model("host-model")), []corev1.Node{node("b", ice)}, []string{"b"}},
		{"no processor in the spec", guest(func(g *virtv1.VirtualMachineInstance) { g.Spec.Domain.CPU = nil }), []corev1.Node{node("b", ice)}, []string{"b"}},
		{
			"node selector", guest(func(g *virtv1.VirtualMachineInstance) { g.Spec.NodeSelector = map[string]string{"disk": "hdd"} }),
			[]corev1.Node{node("b", nehalem)}, nil,
		},
		{
			"affinity of which one term matches", guest(affinityTo(
				corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{expression("disk", "In", "hdd")}},
				corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{expression("rank", "Gt", "4"), expression("disk", "Exists")}},
			)), []corev1.Node{node("b", nehalem)}, []string{"b"},
		},
		{
			"affinity by name", guest(affinityTo(corev1.NodeSelectorTerm{
				MatchFields: []corev1.NodeSelectorRequirement{expression("metadata.name", "In", "c")},
			})), []corev1.Node{node("b", nehalem), node("c", nehalem)}, []string{"c"},
		},
		{
			"affinity that cannot be read", guest(affinityTo(corev1.NodeSelectorTerm{}, corev1.NodeSelectorTerm{
				MatchExpressions: []corev1.NodeSelectorRequirement{expression("disk", "Like", "ssd")},
			})), []corev1.Node{node("b", nehalem)}, nil,
		},
		{"affinity that only prefers", guest(func(g *virtv1.VirtualMachineInstance) {
			g.Spec.Affinity = &corev1.Affinity{NodeAffinity: &corev1.NodeAffinity{}}
		}), []corev1.Node{node("b", nehalem)}, []string{"b"}},
		{"a taint", guest(), []corev1.Node{node("b", nehalem, dedicated)}, nil},
		{
			"a taint that is tolerated", guest(func(g *virtv1.VirtualMachineInstance) {
				g.Spec.Tolerations = []corev1.Toleration{{Key: "dedicated", Operator: "Exists"}}
			}), []corev1.Node{node("b", nehalem, dedicated)}, []string{"b"},
		},
		{
			"a taint that is tolerated for a while", guest(func(g *virtv1.VirtualMachineInstance) {
				g.Spec.Tolerations = []corev1.Toleration{{Operator: "Exists", TolerationSeconds: ptr.To[int64](60)}}
			}), []corev1.Node{node("b", nehalem, corev1.Taint{Key: "dedicated", Effect: "NoExecute"})}, nil,
		},
		{"a cordon is over some day", guest(), []corev1.Node{node("b", nehalem, cordoned)}, []string{"b"}},
		{"a taint that only prefers", guest(), []corev1.Node{node("b", nehalem, corev1.Taint{Key: "x", Effect: "PreferNoSchedule"})}, []string{"b"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Others(test.guest, test.nodes); !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}
