// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func onNode(labels map[string]string) func(*Observed) {
	return func(o *Observed) {
		o.Node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-1", Labels: labels}}
	}
}

func needsZoneA(o *Observed) {
	o.Machine.Spec.Affinity = &v1alpha2.Affinity{NodeAffinity: &corev1.NodeAffinity{
		RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: "zone", Operator: "In", Values: []string{"a"}}},
		}}},
	}}
}

func classSelects(labels map[string]string) func(*Observed) {
	return func(o *Observed) { o.Class.Spec.NodeSelector.MatchLabels = labels }
}

// A change of the placement is live, except that the engine does not move the guest
// for it: where the guest is and may not be started again, that is said.
func TestPlacementOfARunningGuest(t *testing.T) {
	fast, slow := map[string]string{"disk": "fast", "zone": "a"}, map[string]string{"disk": "slow", "zone": "b"}
	for name, test := range map[string]struct {
		changes []func(*Observed)
		paths   []string
		message string
	}{
		"the node is selected":     {[]func(*Observed){selects(map[string]string{"disk": "fast"}), needsZoneA, onNode(fast)}, nil, ""},
		"the node is not selected": {[]func(*Observed){selects(map[string]string{"disk": "fast"}), onNode(slow)}, []string{"nodeSelector"}, "nodeSelector (the guest runs on node-1, which it does not select; moving the machine does as well)"},
		"the zone is another":      {[]func(*Observed){needsZoneA, onNode(slow)}, []string{"affinity"}, "the guest runs on node-1"},
		"the node is not known":    {[]func(*Observed){needsZoneA}, nil, ""},
		"an affinity to machines": {[]func(*Observed){onNode(slow), func(o *Observed) {
			o.Machine.Spec.Affinity = &v1alpha2.Affinity{VirtualMachineAndPodAntiAffinity: &v1alpha2.VirtualMachineAndPodAntiAffinity{}}
		}}, nil, ""},
		"an expression that is none": {[]func(*Observed){onNode(slow), needsZoneA, func(o *Observed) {
			o.Machine.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchExpressions[0].Operator = "Like"
		}}, []string{"affinity"}, "it cannot be told whether it selects the node node-1"},
		"tolerations": {[]func(*Observed){onNode(slow), func(o *Observed) {
			o.Machine.Spec.Tolerations = []corev1.Toleration{{Key: "gpu"}}
		}}, nil, ""},
		"the class has left the node":   {[]func(*Observed){classSelects(fast), onNode(slow)}, nil, "VirtualMachineClass generic does not select the node node-1 that the guest runs on: restart the machine or move it."},
		"the class still wants it":      {[]func(*Observed){classSelects(fast), onNode(fast)}, nil, ""},
		"a class without a selector":    {[]func(*Observed){onNode(slow)}, nil, ""},
		"the class and nobody approved": {[]func(*Observed){classSelects(fast), onNode(slow), automatic, engineShows(t)}, nil, "does not select the node node-1"},
	} {
		t.Run(name, func(t *testing.T) {
			decided := Decide(observation(append([]func(*Observed){growable(t)}, test.changes...)...))
			var paths []string
			for _, change := range decided.Status.Status.RestartAwaitingChanges {
				paths = append(paths, change.Path)
			}
			if strings.Join(paths, " ") != strings.Join(test.paths, " ") {
				t.Errorf("waiting: %v, want %v", paths, test.paths)
			}
			if test.message == "" {
				expectNoCondition(t, decided.Status, "AwaitingRestartToApplyConfiguration")
			} else if message := expectCondition(t, decided.Status, "AwaitingRestartToApplyConfiguration", "True", "ChangesPendingRestart").Message; !strings.Contains(message, test.message) {
				t.Errorf("says %q, want %q", message, test.message)
			}
			if decided.Restart != "" {
				t.Error("restarts for the placement")
			}
		})
	}
}

func TestNodeIsOnlyOfInterestWhenPlacementChanged(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*Observed)
		want   bool
	}{
		"nothing":  {func(*Observed) {}, false},
		"selector": {selects(map[string]string{"disk": "fast"}), true},
		"affinity": {needsZoneA, true},
		"class":    {classSelects(map[string]string{"disk": "fast"}), true},
		"no class": {func(o *Observed) { o.Class = nil }, false},
		"unknown":  {func(o *Observed) { delete(o.Guest.Annotations, v1alpha2.AnnotationLastAppliedSpec) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			if got := PlacementMatters(observation(growable(t), test.change)); got != test.want {
				t.Errorf("matters: %v", got)
			}
		})
	}
}
