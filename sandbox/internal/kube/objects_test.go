// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kube

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	dynamicfake "k8s.io/client-go/dynamic/fake"
	"k8s.io/client-go/kubernetes/fake"
)

var disks = schema.GroupVersionResource{Group: "example.org", Version: "v1", Resource: "disks"}

// disk is an object with a phase and one condition.
func disk(phase, status, message string) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: map[string]any{
		"apiVersion": "example.org/v1", "kind": "Disk",
		"metadata": map[string]any{"namespace": "team", "name": "root"},
		"status": map[string]any{
			"phase":      phase,
			"conditions": []any{map[string]any{"type": "Ready", "status": status, "message": message}},
		},
	}}
}

func newDynamic(objects ...runtime.Object) *Client {
	kinds := map[schema.GroupVersionResource]string{disks: "DiskList"}
	return &Client{dynamic: dynamicfake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(), kinds, objects...)}
}

func TestChecksTellWhatIsMissing(t *testing.T) {
	cases := []struct {
		name  string
		check Check
		disk  *unstructured.Unstructured
		want  string
	}{
		{"condition is true", ConditionTrue("Ready"), disk("", "True", ""), ""},
		{"condition is false", ConditionTrue("Ready"), disk("", "False", "no image"), "root: Ready is False: no image"},
		{"condition is missing", ConditionTrue("Available"), disk("", "True", ""), "root: no Available yet"},
		{"phase is right", PhaseIs("Deployed"), disk("Deployed", "", ""), ""},
		{"phase is another", PhaseIs("Deployed"), disk("Deploying", "", ""), `root is "Deploying", not yet Deployed`},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := ""
			if err := tc.check(tc.disk); err != nil {
				got = err.Error()
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestWaitForObjectTellsWhy(t *testing.T) {
	c := newDynamic(disk("", "False", "no image"))
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var told []string
	err := c.WaitForObject(ctx, Object{Resource: disks, Namespace: "team", Name: "root"},
		func(err error) { told = append(told, err.Error()) }, ConditionTrue("Ready"))
	if err == nil || err.Error() != "waiting for disks root: root: Ready is False: no image" {
		t.Errorf("got %v", err)
	}
	if len(told) == 0 || told[0] != "root: Ready is False: no image" {
		t.Errorf("told %q", told)
	}
}

func TestExists(t *testing.T) {
	c := newDynamic(disk("", "True", ""))
	for name, want := range map[string]bool{"root": true, "other": false} {
		got, err := c.Exists(context.Background(), Object{Resource: disks, Namespace: "team", Name: name})
		if err != nil || got != want {
			t.Errorf("%s: got %v, %v", name, got, err)
		}
	}
}

func TestWorkloads(t *testing.T) {
	one := int32(1)
	deployment := func(available int32) *appsv1.Deployment {
		return &appsv1.Deployment{
			ObjectMeta: metav1.ObjectMeta{Namespace: "d8", Name: "controller"},
			Spec:       appsv1.DeploymentSpec{Replicas: &one},
			Status:     appsv1.DeploymentStatus{Replicas: 1, UpdatedReplicas: 1, AvailableReplicas: available},
		}
	}
	daemon := func(available int32) *appsv1.DaemonSet {
		return &appsv1.DaemonSet{
			ObjectMeta: metav1.ObjectMeta{Namespace: "d8", Name: "router"},
			Status:     appsv1.DaemonSetStatus{DesiredNumberScheduled: 2, UpdatedNumberScheduled: 2, NumberAvailable: available},
		}
	}
	cases := []struct {
		name    string
		objects []runtime.Object
		want    string
	}{
		{"all", []runtime.Object{deployment(1), daemon(2)}, ""},
		{"nothing yet", nil, "not all workloads are there yet"},
		{"only one kind yet", []runtime.Object{deployment(1)}, "not all workloads are there yet"},
		{"a deployment waits", []runtime.Object{deployment(0), daemon(2)}, "controller: 0 of 1 pods are available"},
		{"a daemon waits", []runtime.Object{deployment(1), daemon(1)}, "router: 1 of 2 pods are available"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			c := &Client{api: fake.NewSimpleClientset(tc.objects...)}
			err := c.workloads(context.Background(), "d8")
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}
