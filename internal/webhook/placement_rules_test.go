// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// expectProblems compares the places, and the messages where a place goes on with
// a part of one.
func expectProblems(t *testing.T, machine *v1alpha2.VirtualMachine, want ...string) {
	t.Helper()
	var got []string
	for _, problem := range rulePlacement(nil, machine, machineFacts{}) {
		got = append(got, problem.Error())
	}
	if len(got) != len(want) {
		t.Fatalf("problems:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for i := range want {
		if !strings.HasPrefix(got[i], want[i]) {
			t.Errorf("problem %q, want %q", got[i], want[i])
		}
	}
	if problems := rulePlacement(machine, machine.DeepCopy(), machineFacts{}); len(problems) > 0 {
		t.Errorf("what was there before is complained about: %v", problems)
	}
}

func placed(change func(*v1alpha2.VirtualMachineSpec)) *v1alpha2.VirtualMachine {
	return testMachine(func(m *v1alpha2.VirtualMachine) { change(&m.Spec) })
}

// Every mistake is told at once, each with its place.
func TestPodAffinityProblems(t *testing.T) {
	nowhere := term(func(t *v1alpha2.VirtualMachineAndPodAffinityTerm) { t.TopologyKey = "" })
	badKey := term(func(t *v1alpha2.VirtualMachineAndPodAffinityTerm) { t.TopologyKey = "no key" })
	badNamespaces := term(func(t *v1alpha2.VirtualMachineAndPodAffinityTerm) {
		t.NamespaceSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"not a key!": "x"}}
		t.Namespaces = []string{"good", "Bad"}
	})
	expectProblems(t, placed(func(spec *v1alpha2.VirtualMachineSpec) {
		spec.Affinity = &v1alpha2.Affinity{
			VirtualMachineAndPodAffinity: &v1alpha2.VirtualMachineAndPodAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution: []v1alpha2.VirtualMachineAndPodAffinityTerm{
					term(func(*v1alpha2.VirtualMachineAndPodAffinityTerm) {}), nowhere, badKey,
				},
			},
			VirtualMachineAndPodAntiAffinity: &v1alpha2.VirtualMachineAndPodAntiAffinity{
				RequiredDuringSchedulingIgnoredDuringExecution:  []v1alpha2.VirtualMachineAndPodAffinityTerm{badNamespaces},
				PreferredDuringSchedulingIgnoredDuringExecution: []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm{{Weight: 101, VirtualMachineAndPodAffinityTerm: nowhere}},
			},
		}
	}),
		"spec.affinity.virtualMachineAndPodAffinity.requiredDuringSchedulingIgnoredDuringExecution[1].topologyKey: Required value: name a node label",
		`spec.affinity.virtualMachineAndPodAffinity.requiredDuringSchedulingIgnoredDuringExecution[2].topologyKey: Invalid value: "no key"`,
		"spec.affinity.virtualMachineAndPodAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaceSelector.matchLabels",
		`spec.affinity.virtualMachineAndPodAntiAffinity.requiredDuringSchedulingIgnoredDuringExecution[0].namespaces[1]: Invalid value: "Bad"`,
		"spec.affinity.virtualMachineAndPodAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: must be from 1 to 100",
		"spec.affinity.virtualMachineAndPodAntiAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].virtualMachineAndPodAffinityTerm.topologyKey: Required",
	)
}

func TestNodeAffinityProblems(t *testing.T) {
	expression := func(key string, operator corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: operator, Values: values}}}
	}
	byName := func(key string, values ...string) corev1.NodeSelectorTerm {
		return corev1.NodeSelectorTerm{MatchFields: []corev1.NodeSelectorRequirement{{Key: key, Operator: "In", Values: values}}}
	}
	const required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms"
	expectProblems(t, placed(func(spec *v1alpha2.VirtualMachineSpec) {
		spec.Affinity = &v1alpha2.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{
				expression("zone", "In", "a", "b"), expression("zone", "Exists"), expression("cores", "Gt", "8"), byName("metadata.name", "node-1"),
				expression("zone", "In"), expression("zone", "Exists", "a"), expression("cores", "Lt", "many"), expression("zone", "Near", "a"),
				expression("no key", "Exists"), byName("metadata.namespace", "x"), byName("metadata.name", "a", "b"),
			}},
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{
				{Weight: 1, Preference: expression("zone", "In", "a")}, {Weight: 0, Preference: expression("zone", "NotIn")},
			},
		}}
	}),
		required+`[4].matchExpressions[0]: Invalid value: "zone"`,
		required+`[5].matchExpressions[0]: Invalid value: "zone"`,
		required+`[6].matchExpressions[0]: Invalid value: "cores"`,
		required+`[7].matchExpressions[0].operator: Invalid value: "Near": must be In, NotIn, Exists, DoesNotExist, Gt or Lt`,
		required+`[8].matchExpressions[0]: Invalid value: "no key"`,
		required+`[9].matchFields[0]: Invalid value: "metadata.namespace": must be metadata.name`,
		required+`[10].matchFields[0]: Invalid value: "metadata.name": must be metadata.name with the operator In or NotIn and one node name`,
		"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].weight: Invalid value: 0",
		"spec.affinity.nodeAffinity.preferredDuringSchedulingIgnoredDuringExecution[1].preference.matchExpressions[0]",
	)
	expectProblems(t, placed(func(spec *v1alpha2.VirtualMachineSpec) {
		spec.Affinity = &v1alpha2.Affinity{NodeAffinity: &corev1.NodeAffinity{RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{}}}
	}), required+": Required value: name at least one alternative")
}

func TestTolerationAndSelectorProblems(t *testing.T) {
	expectProblems(t, placed(func(spec *v1alpha2.VirtualMachineSpec) {
		spec.NodeSelector = map[string]string{"zone": "a b"}
		spec.Tolerations = []corev1.Toleration{
			{Operator: "Exists"},
			{Key: "dedicated", Value: "machines", Effect: "NoSchedule"},
			{Key: "gone", Operator: "Exists", Effect: "NoExecute", TolerationSeconds: ptr.To[int64](5)},
			{},
			{Key: "a", Operator: "Exists", Value: "b"},
			{Key: "a", Operator: "Near"},
			{Key: "a", Value: "b c"},
			{Key: "a", Effect: "Never"},
			{Key: "a", TolerationSeconds: ptr.To[int64](5)},
			{Key: "no key"},
		}
	}),
		"spec.nodeSelector",
		"spec.tolerations[3].key: Required value: name the taint, or set operator: Exists",
		`spec.tolerations[4].value: Invalid value: "b": must be left out when operator is Exists`,
		`spec.tolerations[5].operator: Unsupported value: "Near": supported values: "Equal", "Exists"`,
		`spec.tolerations[6].value: Invalid value: "b c"`,
		`spec.tolerations[7].effect: Unsupported value: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute"`,
		`spec.tolerations[8].effect: Invalid value: "": must be NoExecute when tolerationSeconds is set`,
		`spec.tolerations[9].key: Invalid value: "no key"`,
	)
}

func TestSpreadProblems(t *testing.T) {
	spread := func(key string, skew int32, when corev1.UnsatisfiableConstraintAction) corev1.TopologySpreadConstraint {
		return corev1.TopologySpreadConstraint{TopologyKey: key, MaxSkew: skew, WhenUnsatisfiable: when}
	}
	few := spread("rack", 1, "ScheduleAnyway")
	few.MinDomains = ptr.To[int32](2)
	badSelector := spread("row", 1, "ScheduleAnyway")
	badSelector.LabelSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: "app", Operator: "In"}}}
	expectProblems(t, placed(func(spec *v1alpha2.VirtualMachineSpec) {
		spec.TopologySpreadConstraints = []corev1.TopologySpreadConstraint{
			spread("zone", 1, "DoNotSchedule"), spread("zone", 1, "ScheduleAnyway"),
			spread("", 0, "Perhaps"), few, badSelector, spread("zone", 2, "DoNotSchedule"),
		}
	}),
		"spec.topologySpreadConstraints[2].topologyKey: Required value: name a node label",
		"spec.topologySpreadConstraints[2].maxSkew: Invalid value: 0",
		`spec.topologySpreadConstraints[2].whenUnsatisfiable: Unsupported value: "Perhaps": supported values: "DoNotSchedule", "ScheduleAnyway"`,
		"spec.topologySpreadConstraints[3].minDomains: Invalid value: 2",
		"spec.topologySpreadConstraints[4].labelSelector.matchExpressions[0].values",
		`spec.topologySpreadConstraints[5]: Duplicate value: "zone, DoNotSchedule"`,
	)
}
