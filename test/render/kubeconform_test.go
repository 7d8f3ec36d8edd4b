// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"strings"
	"testing"

	"github.com/yannh/kubeconform/pkg/validator"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

// The engine's two objects follow the definitions in crds/, which TestEngineObjectsFollowTheirSchemas sees to.
func conformance(t *testing.T) validator.Validator {
	t.Helper()
	checker, err := Conformance(t.TempDir(), "KubeVirt", "CDI")
	if err != nil {
		t.Fatal(err)
	}
	return checker
}

func TestObjectsConform(t *testing.T) {
	checker := conformance(t)
	forEach(t, func(t *testing.T, objects []Object) {
		for _, object := range objects {
			if err := Conform(checker, object); err != nil {
				t.Errorf("%s %s (%s): %v", object.GetKind(), object.GetName(), object.Template, err)
			}
		}
	})
}

// A check that lets everything through would let this through, too.
func TestConformanceFindsMistakes(t *testing.T) {
	tests := []struct{ name, object, want string }{
		{
			name:   "field that does not exist",
			object: "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, date: {}}",
			want:   "additional properties 'date' not allowed",
		},
		{
			name:   "field that is missing",
			object: "{apiVersion: apps/v1, kind: Deployment, metadata: {name: x}, spec: {template: {}}}",
			want:   "missing property 'selector'",
		},
		{
			name:   "number that is a text",
			object: "{apiVersion: policy/v1, kind: PodDisruptionBudget, metadata: {name: x}, spec: {maxUnavailable: true}}",
			want:   "got boolean, want integer or string",
		},
		{
			name: "deep inside",
			object: "{apiVersion: apps/v1, kind: DaemonSet, metadata: {name: x}, spec: {selector: {}, template: {spec: {containers: " +
				"[{name: x, resources: {requests: {cpu: []}}}]}}}}",
			want: "got array, want number or string",
		},
		{
			name:   "kind of another module",
			object: "{apiVersion: autoscaling.k8s.io/v1, kind: VerticalPodAutoscaler, metadata: {name: x}, spec: {}}",
			want:   "missing property 'targetRef'",
		},
		{
			name:   "kind that nobody knows",
			object: "{apiVersion: example.org/v1, kind: Unknown, metadata: {name: x}}",
			want:   "could not find schema for Unknown",
		},
	}
	checker := conformance(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			content := map[string]any{}
			if err := yaml.Unmarshal([]byte(test.object), &content); err != nil {
				t.Fatal(err)
			}
			err := Conform(checker, Object{Unstructured: &unstructured.Unstructured{Object: content}})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want one that says %q", err, test.want)
			}
		})
	}
}
