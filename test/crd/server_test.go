// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

// creation is an object that somebody makes: the base of its kind with a change. Without problems it has to be
// accepted, otherwise the answer has to say all of them.
type creation struct {
	change   string
	problems []string
}

// update is an object whose spec somebody changes while it has a certain status.
type update struct {
	before   string
	status   string
	change   string
	problems []string
}

// checkCreations sends every object to the API server, which keeps none.
func checkCreations(t *testing.T, base string, creations map[string]creation) {
	t.Helper()
	server := strictClient(t)
	namespace := apiserver.Namespace(t, server)
	for name, test := range creations {
		t.Run(name, func(t *testing.T) {
			object := build(t, namespace, base, test.change)
			checkAnswer(t, server.Create(t.Context(), object, client.DryRunAll), test.problems)
		})
	}
}

// checkUpdates makes every object with its status and sends the change, which the API server does not keep.
func checkUpdates(t *testing.T, base string, updates map[string]update) {
	t.Helper()
	server := strictClient(t)
	for name, test := range updates {
		t.Run(name, func(t *testing.T) {
			object := build(t, apiserver.Namespace(t, server), base, test.before)
			if object.GetName() == "" || clusterScoped(object) {
				object.SetName("")
				object.SetGenerateName("test-")
			}
			if err := server.Create(t.Context(), object); err != nil {
				t.Fatal(err)
			}
			if test.status != "" {
				object.Object["status"] = parse(t, test.status)
				if err := server.Status().Update(t.Context(), object); err != nil {
					t.Fatal(err)
				}
			}
			object.Object = merge(object.Object, parse(t, test.change))
			checkAnswer(t, server.Update(t.Context(), object, client.DryRunAll), test.problems)
		})
	}
}

// checkDefaults makes an object and compares the spec that the API server makes of it.
func checkDefaults(t *testing.T, base, want string) {
	t.Helper()
	server := strictClient(t)
	object := build(t, apiserver.Namespace(t, server), base, "")
	if err := server.Create(t.Context(), object, client.DryRunAll); err != nil {
		t.Fatal(err)
	}
	got, _, _ := unstructured.NestedMap(object.Object, "spec")
	if diff := cmp.Diff(toYAML(t, parse(t, want)), toYAML(t, got)); diff != "" {
		t.Errorf("spec (-want +got):\n%s", diff)
	}
}

func checkAnswer(t *testing.T, err error, problems []string) {
	t.Helper()
	if len(problems) == 0 {
		if err != nil {
			t.Errorf("refused: %v", err)
		}
		return
	}
	if err == nil {
		t.Fatalf("accepted, want an answer that says %q", problems)
	}
	for _, problem := range problems {
		if !strings.Contains(err.Error(), problem) {
			t.Errorf("the answer does not say %q: %v", problem, err)
		}
	}
}

// strictClient makes the API server refuse unknown fields, as `kubectl apply` does.
func strictClient(t *testing.T) client.Client {
	t.Helper()
	return client.WithFieldValidation(apiserver.Client(t), metav1.FieldValidationStrict)
}

func build(t *testing.T, namespace, base, change string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{Object: merge(parse(t, base), parse(t, change))}
	object.SetAPIVersion(group + "/v1alpha2")
	if !clusterScoped(object) {
		object.SetNamespace(namespace)
	}
	return object
}

func clusterScoped(object *unstructured.Unstructured) bool {
	switch object.GetKind() {
	case "ClusterVirtualImage", "VirtualMachineClass", "VirtualMachineIPAddressLease":
		return true
	}
	return false
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	out := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &out); err != nil {
		t.Fatalf("%v in\n%s", err, text)
	}
	return out
}

func toYAML(t *testing.T, object map[string]any) string {
	t.Helper()
	out, err := yaml.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// merge puts a change over an object: maps are merged, null removes, everything else replaces.
func merge(object, change map[string]any) map[string]any {
	out := maps.Clone(object)
	for name, value := range change {
		inner, isMap := value.(map[string]any)
		outer, wasMap := out[name].(map[string]any)
		switch {
		case value == nil:
			delete(out, name)
		case isMap && wasMap:
			out[name] = merge(outer, inner)
		default:
			out[name] = value
		}
	}
	return out
}
