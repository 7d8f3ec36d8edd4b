// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"
)

func node(name string, conditions ...corev1.NodeCondition) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{Conditions: conditions}}
}

func ready(status corev1.ConditionStatus, message string) corev1.NodeCondition {
	return corev1.NodeCondition{Type: corev1.NodeReady, Status: status, Message: message}
}

func message(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestNodeReady(t *testing.T) {
	tests := []struct {
		name       string
		conditions []corev1.NodeCondition
		want       string
	}{
		{"ready", []corev1.NodeCondition{ready(corev1.ConditionTrue, "")}, ""},
		{"not ready", []corev1.NodeCondition{ready(corev1.ConditionFalse, "no network plugin")}, "node is not ready: no network plugin"},
		{"lost", []corev1.NodeCondition{ready(corev1.ConditionUnknown, "kubelet stopped")}, "node is not ready: kubelet stopped"},
		{"new", []corev1.NodeCondition{{Type: corev1.NodeMemoryPressure, Status: corev1.ConditionFalse}}, "node has not reported yet"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := message(nodeReady(node("node-1", tt.conditions...))); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestDeploymentReady(t *testing.T) {
	tests := []struct {
		name     string
		replicas *int32
		status   appsv1.DeploymentStatus
		want     string
	}{
		{"ready", ptr.To[int32](2), appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 2}, ""},
		{"one by default", nil, appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, ""},
		{"not seen yet", nil, appsv1.DeploymentStatus{ObservedGeneration: 2, Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: 1}, "1 of 1 pods are available"},
		{"starting", ptr.To[int32](2), appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 2, AvailableReplicas: 1}, "1 of 2 pods are available"},
		{"old pod left", nil, appsv1.DeploymentStatus{ObservedGeneration: 3, Replicas: 2, UpdatedReplicas: 1, AvailableReplicas: 2}, "2 of 1 pods are available"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Generation: 3}, Spec: appsv1.DeploymentSpec{Replicas: tt.replicas}, Status: tt.status}
			if got := message(deploymentReady(d)); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestNodes(t *testing.T) {
	c := &Client{api: fake.NewSimpleClientset(node("node-1", ready(corev1.ConditionTrue, "")), node("node-2"))}
	nodes, err := c.Nodes(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(nodes) != 2 || nodes["node-1"] != nil || nodes["node-2"] == nil {
		t.Errorf("got %v", nodes)
	}
}

func TestLabelNodeKeepsOtherLabels(t *testing.T) {
	n := node("node-1")
	n.Labels = map[string]string{"kept": "yes"}
	c := &Client{api: fake.NewSimpleClientset(n)}
	if err := c.LabelNode(context.Background(), "node-1", map[string]string{"node-role.kubernetes.io/control-plane": ""}); err != nil {
		t.Fatal(err)
	}
	got, err := c.api.CoreV1().Nodes().Get(context.Background(), "node-1", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if _, has := got.Labels["node-role.kubernetes.io/control-plane"]; !has || got.Labels["kept"] != "yes" {
		t.Errorf("labels %v", got.Labels)
	}
}

func TestWaitSaysWhatWasTheMatter(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Millisecond)
	defer cancel()
	cause := errors.New("1 of 2 pods are available")
	err := wait(ctx, "deployment x", func() error { return cause })
	if !errors.Is(err, cause) || err.Error() != "waiting for deployment x: 1 of 2 pods are available" {
		t.Errorf("error %v", err)
	}
}

func TestWaitReturnsAtOnceWhenAllIsWell(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := wait(ctx, "x", func() error { return nil }); err != nil {
		t.Error(err)
	}
}

func TestWaitForDeploymentThatIsMissing(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	c := &Client{api: fake.NewSimpleClientset()}
	err := c.WaitForDeployment(ctx, "kube-system", "coredns")
	if err == nil || !strings.Contains(err.Error(), "deployment kube-system/coredns") || !strings.Contains(err.Error(), "not found") {
		t.Errorf("error %v", err)
	}
}

func TestNewWithoutKubeconfig(t *testing.T) {
	if _, err := New("/no/such/kubeconfig"); err == nil || !strings.Contains(err.Error(), "/no/such/kubeconfig") {
		t.Errorf("error %v", err)
	}
}
