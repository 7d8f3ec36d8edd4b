// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"reflect"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

func TestLoad(t *testing.T) {
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, object := range all {
		names = append(names, object.GetKind()+" "+object.GetName())
	}
	want := []string{
		"CustomResourceDefinition modules.deckhouse.io",
		"CustomResourceDefinition moduleconfigs.deckhouse.io",
		"CustomResourceDefinition modulepulloverrides.deckhouse.io",
		"CustomResourceDefinition modulereleases.deckhouse.io",
		"CustomResourceDefinition modulesources.deckhouse.io",
		"CustomResourceDefinition moduleupdatepolicies.deckhouse.io",
		"CustomResourceDefinition nodegroupconfigurations.deckhouse.io",
	}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("got %q", names)
	}
}

func TestEstablished(t *testing.T) {
	tests := []struct {
		name       string
		conditions []any
		want       bool
	}{
		{"new", nil, false},
		{"names only", []any{map[string]any{"type": "NamesAccepted", "status": "True"}}, false},
		{"not yet", []any{map[string]any{"type": "Established", "status": "False"}}, false},
		{"served", []any{map[string]any{"type": "NamesAccepted", "status": "True"}, map[string]any{"type": "Established", "status": "True"}}, true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			object := &unstructured.Unstructured{Object: map[string]any{"status": map[string]any{"conditions": test.conditions}}}
			if got := established(object); got != test.want {
				t.Errorf("got %v", got)
			}
		})
	}
}
