// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package binding

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// now is when the test takes place.
var now = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func TestJudge(t *testing.T) {
	node := func(name string, guests bool) corev1.Node {
		out := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
		if guests {
			out.Labels = map[string]string{"kubevirt.io/schedulable": "false"}
		}
		return out
	}
	report := func(node string, status corev1.ConditionStatus, age time.Duration) corev1.Pod {
		return corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Name: "vm-router-" + node, UID: types.UID(node), CreationTimestamp: metav1.NewTime(now.Add(-age))},
			Spec:       corev1.PodSpec{NodeName: node},
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: "virtualization.deckhouse.io/BridgeBinding", Status: status}}},
		}
	}
	two := []corev1.Node{node("node-1", true), node("node-2", true)}
	tests := []struct {
		name    string
		nodes   []corev1.Node
		routers []corev1.Pod
		want    Verdict
	}{
		{"all can", two, []corev1.Pod{report("node-1", "True", 0), report("node-2", "True", 0)}, Verdict{"bridge", true}},
		{"one cannot", two, []corev1.Pod{report("node-1", "True", 0), report("node-2", "False", 0)}, Verdict{"masquerade", true}},
		{"one cannot, one is silent", two, []corev1.Pod{report("node-2", "False", 0)}, Verdict{"masquerade", true}},
		{"one is silent", two, []corev1.Pod{report("node-1", "True", 0)}, Verdict{"masquerade", false}},
		{"one does not know", two, []corev1.Pod{report("node-1", "True", 0), report("node-2", "Unknown", 0)}, Verdict{"masquerade", false}},
		{"nodes without guests do not count", append(two[:1:1], node("node-3", false)), []corev1.Pod{report("node-1", "True", 0)}, Verdict{"bridge", true}},
		{"the newer pod counts", two[:1], []corev1.Pod{report("node-1", "True", 0), report("node-1", "False", time.Hour)}, Verdict{"bridge", true}},
		{"the newer pod counts in any order", two[:1], []corev1.Pod{report("node-1", "False", time.Hour), report("node-1", "True", 0)}, Verdict{"bridge", true}},
		{"no nodes", nil, nil, Verdict{"masquerade", false}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := Judge(test.nodes, test.routers); got != test.want {
				t.Errorf("got %+v, want %+v", got, test.want)
			}
		})
	}
}
