// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package hooktest runs hooks the way addon-operator does: snapshots are made by the hook's own filters from
// whole objects, and values behave as in a real run.
package hooktest

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jonboulle/clockwork"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/deckhouse/pkg/log"
	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/jq"
	patchablevalues "github.com/deckhouse/module-sdk/pkg/patchable-values"
)

// Run is one run of a hook.
type Run struct {
	// Config is that of the hook.
	Config *pkg.HookConfig
	// Objects are in the cluster, as YAML.
	Objects []string
	// Values are those before the run, as YAML.
	Values string
	// Now is the time of the run; the real one if unset.
	Now time.Time
	// Client answers hooks that read the cluster themselves.
	Client pkg.KubernetesClient
}

// Result is what a run left behind.
type Result struct {
	t testing.TB
	// Set holds the values that were set, by path.
	Set map[string]json.RawMessage
	// Removed lists the paths that were removed.
	Removed []string
	// Created are the objects to be created unless they exist.
	Created []*unstructured.Unstructured
	// Patched are the changes to be made to objects, in order.
	Patched []Patch
	// Deleted are the objects to be deleted, as Kind namespace/name.
	Deleted []string
	// Metrics holds the gauges that were set, by name and labels: name{label="value"}.
	Metrics map[string]float64
}

// String returns a string that the run set.
func (r *Result) String(path string) string {
	r.t.Helper()
	var text string
	r.Decode(path, &text)
	return text
}

// Decode reads a value that the run set.
func (r *Result) Decode(path string, into any) {
	r.t.Helper()
	raw, found := r.Set[path]
	if !found {
		r.t.Fatalf("%s was not set; set: %v", path, r.Paths())
	}
	if err := json.Unmarshal(raw, into); err != nil {
		r.t.Fatalf("%s = %s: %v", path, raw, err)
	}
}

// Paths lists what was set.
func (r *Result) Paths() []string {
	paths := make([]string, 0, len(r.Set))
	for path := range r.Set {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	return paths
}

// Handle runs a hook, which must succeed.
func (r Run) Handle(t testing.TB, handle func(context.Context, *pkg.HookInput) error) *Result {
	t.Helper()
	values, written, err := r.run(t, handle)
	if err != nil {
		t.Fatalf("hook failed: %v", err)
	}
	return result(t, values, written)
}

// Fail runs a hook, which must not succeed, and returns its error.
func (r Run) Fail(t testing.TB, handle func(context.Context, *pkg.HookInput) error) error {
	t.Helper()
	_, _, err := r.run(t, handle)
	if err == nil {
		t.Fatal("the hook succeeded")
	}
	return err
}

func (r Run) run(t testing.TB, handle func(context.Context, *pkg.HookInput) error) (*patchablevalues.PatchableValues, *writes, error) {
	t.Helper()
	patchable, written, input := r.input(t)
	return patchable, written, handle(t.Context(), input)
}

// Input is what a hook is run with, for whoever runs it many times.
func (r Run) Input(t testing.TB) *pkg.HookInput {
	t.Helper()
	_, _, input := r.input(t)
	return input
}

func (r Run) input(t testing.TB) (*patchablevalues.PatchableValues, *writes, *pkg.HookInput) {
	t.Helper()
	values := map[string]any{}
	if err := yaml.Unmarshal([]byte(r.Values), &values); err != nil {
		t.Fatalf("values: %v", err)
	}
	patchable, err := patchablevalues.NewPatchableValues(values)
	if err != nil {
		t.Fatalf("values: %v", err)
	}
	clock := clockwork.NewFakeClockAt(time.Now())
	if !r.Now.IsZero() {
		clock = clockwork.NewFakeClockAt(r.Now)
	}

	written := &writes{metrics: map[string]float64{}}
	return patchable, written, &pkg.HookInput{
		Snapshots:        r.snapshots(t),
		Values:           patchable,
		PatchCollector:   written,
		MetricsCollector: metrics{set: written.metrics},
		DC:               dependencies{clock: clock, client: r.Client},
		Logger:           log.NewNop(),
	}
}

func result(t testing.TB, values *patchablevalues.PatchableValues, written *writes) *Result {
	t.Helper()
	result := &Result{t: t, Set: map[string]json.RawMessage{}, Created: written.created, Patched: written.patched, Deleted: written.deleted, Metrics: written.metrics}
	for _, patch := range values.GetPatches() {
		path := strings.ReplaceAll(strings.TrimPrefix(patch.Path, "/"), "/", ".")
		switch patch.Op {
		case "remove":
			result.Removed = append(result.Removed, path)
		default:
			raw, err := json.Marshal(patch.Value)
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			result.Set[path] = raw
		}
	}
	return result
}

// snapshots applies each subscription to the objects it selects.
func (r Run) snapshots(t testing.TB) snapshots {
	t.Helper()
	made := snapshots{}
	for _, binding := range r.Config.Kubernetes {
		query, err := jq.NewQuery(binding.JqFilter)
		if err != nil {
			t.Fatalf("filter of %s: %v", binding.Name, err)
		}
		for _, text := range r.Objects {
			object := &unstructured.Unstructured{}
			if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
				t.Fatalf("object: %v\n%s", err, text)
			}
			if !selects(binding, object) {
				continue
			}
			filtered, err := query.FilterObject(t.Context(), object.Object)
			if err != nil {
				t.Fatalf("filter of %s: %v", binding.Name, err)
			}
			made[binding.Name] = append(made[binding.Name], snapshot(filtered.String()))
		}
	}
	return made
}

func selects(binding pkg.KubernetesConfig, object *unstructured.Unstructured) bool {
	if binding.Kind != object.GetKind() || binding.APIVersion != object.GetAPIVersion() {
		return false
	}
	if binding.NameSelector != nil && !slices.Contains(binding.NameSelector.MatchNames, object.GetName()) {
		return false
	}
	for key, value := range wantedLabels(binding) {
		if object.GetLabels()[key] != value {
			return false
		}
	}
	namespaces := binding.NamespaceSelector
	return namespaces == nil || slices.Contains(namespaces.NameSelector.MatchNames, object.GetNamespace())
}

// wantedLabels are those that a subscription names one by one; hooks of ours use no expressions.
func wantedLabels(binding pkg.KubernetesConfig) map[string]string {
	if binding.LabelSelector == nil {
		return nil
	}
	return binding.LabelSelector.MatchLabels
}

type snapshots map[string][]pkg.Snapshot

func (s snapshots) Get(key string) []pkg.Snapshot { return s[key] }

type snapshot string

func (s snapshot) UnmarshalTo(into any) error { return json.Unmarshal([]byte(s), into) }
func (s snapshot) String() string             { return string(s) }
