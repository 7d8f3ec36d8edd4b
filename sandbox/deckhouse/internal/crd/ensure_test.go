// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic/fake"
	kubetesting "k8s.io/client-go/testing"
)

// server keeps definitions and serves them after some questions.
type server struct {
	client    *fake.FakeDynamicClient
	applied   []string
	questions int
}

func newServer(t *testing.T, questionsUntilServed int, refusal error) *server {
	t.Helper()
	s := &server{client: fake.NewSimpleDynamicClientWithCustomListKinds(runtime.NewScheme(),
		map[schema.GroupVersionResource]string{definitions: "CustomResourceDefinitionList"})}
	s.client.PrependReactor("patch", "customresourcedefinitions", func(action kubetesting.Action) (bool, runtime.Object, error) {
		patch := action.(kubetesting.PatchAction)
		s.applied = append(s.applied, patch.GetName())
		return true, &unstructured.Unstructured{}, refusal
	})
	s.client.PrependReactor("get", "customresourcedefinitions", func(action kubetesting.Action) (bool, runtime.Object, error) {
		s.questions++
		status := "False"
		if s.questions > questionsUntilServed {
			status = "True"
		}
		return true, &unstructured.Unstructured{Object: map[string]any{
			"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
			"metadata": map[string]any{"name": action.(kubetesting.GetAction).GetName()},
			"status":   map[string]any{"conditions": []any{map[string]any{"type": "Established", "status": status}}},
		}}, nil
	})
	return s
}

func TestEnsureInstallsAllAndThenWaits(t *testing.T) {
	s := newServer(t, 1, nil)
	for range 2 {
		if err := Ensure(t.Context(), s.client); err != nil {
			t.Fatal(err)
		}
	}
	once := []string{
		"modules.deckhouse.io", "moduleconfigs.deckhouse.io", "modulepulloverrides.deckhouse.io", "modulereleases.deckhouse.io",
		"modulesources.deckhouse.io", "moduleupdatepolicies.deckhouse.io", "nodegroupconfigurations.deckhouse.io",
	}
	if want := append(slices.Clone(once), once...); !slices.Equal(s.applied, want) {
		t.Errorf("applied %q", s.applied)
	}
	// One answer was "not yet", so one question was asked twice.
	if s.questions != 15 {
		t.Errorf("%d questions", s.questions)
	}
}

func TestEnsureNamesWhatIsRefused(t *testing.T) {
	refusal := apierrors.NewForbidden(definitions.GroupResource(), "modules.deckhouse.io", errors.New("not allowed"))
	s := newServer(t, 0, refusal)
	err := Ensure(t.Context(), s.client)
	if err == nil || !strings.HasPrefix(err.Error(), "install CRD modules.deckhouse.io: ") || !apierrors.IsForbidden(err) {
		t.Errorf("got %v", err)
	}
	if len(s.applied) != 1 || s.questions != 0 {
		t.Errorf("went on: %q, %d questions", s.applied, s.questions)
	}
}

func TestEnsureEndsWithItsContext(t *testing.T) {
	s := newServer(t, 1<<30, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	err := Ensure(ctx, s.client)
	if !errors.Is(err, context.DeadlineExceeded) || !strings.Contains(err.Error(), "wait until the API serves modules.deckhouse.io") {
		t.Errorf("got %v", err)
	}
}

// The definitions are read by a real API server; what it would refuse is found here.
func TestDefinitionsAreComplete(t *testing.T) {
	all, err := load()
	if err != nil {
		t.Fatal(err)
	}
	for _, definition := range all {
		name := definition.GetName()
		plural, _, _ := unstructured.NestedString(definition.Object, "spec", "names", "plural")
		group, _, _ := unstructured.NestedString(definition.Object, "spec", "group")
		if name != plural+"."+group {
			t.Errorf("%s is called %s.%s", name, plural, group)
		}
		versions, _, err := unstructured.NestedSlice(definition.Object, "spec", "versions")
		if err != nil || len(versions) == 0 {
			t.Errorf("%s has no versions: %v", name, err)
		}
		stored := 0
		for _, version := range versions {
			if version.(map[string]any)["storage"] == true {
				stored++
			}
		}
		if stored != 1 {
			t.Errorf("%s stores %d versions", name, stored)
		}
	}
}
