// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
)

func subscription(name string, change func(*pkg.KubernetesConfig)) pkg.KubernetesConfig {
	binding := pkg.KubernetesConfig{Name: name, APIVersion: "v1", Kind: "Service", JqFilter: ".metadata.name"}
	if change != nil {
		change(&binding)
	}
	return binding
}

func TestWhatASubscriptionSelects(t *testing.T) {
	objects := []string{
		"{apiVersion: v1, kind: Service, metadata: {name: one, namespace: a}}",
		"{apiVersion: v1, kind: Service, metadata: {name: two, namespace: b, labels: {color: blue, size: l}}}",
		"{apiVersion: v2, kind: Service, metadata: {name: newer, namespace: a}}",
		"{apiVersion: v1, kind: Secret, metadata: {name: secret, namespace: a}}",
		"{apiVersion: v1, kind: Service, metadata: {name: nowhere}}",
	}
	named := func(names ...string) *pkg.NameSelector { return &pkg.NameSelector{MatchNames: names} }
	for _, tt := range []struct {
		name   string
		change func(*pkg.KubernetesConfig)
		want   []string
	}{
		{"all of a kind", nil, []string{"one", "two", "nowhere"}},
		{"of a namespace", func(c *pkg.KubernetesConfig) { c.NamespaceSelector = &pkg.NamespaceSelector{NameSelector: named("b")} }, []string{"two"}},
		{"of a name", func(c *pkg.KubernetesConfig) { c.NameSelector = named("one", "newer", "secret") }, []string{"one"}},
		{"with a label", func(c *pkg.KubernetesConfig) {
			c.LabelSelector = &metav1.LabelSelector{MatchLabels: map[string]string{"color": "blue"}}
		}, []string{"two"}},
		{"of another version", func(c *pkg.KubernetesConfig) { c.APIVersion = "v2" }, []string{"newer"}},
		{"nothing", func(c *pkg.KubernetesConfig) { c.NameSelector = named("none") }, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			run := Run{Config: &pkg.HookConfig{Kubernetes: []pkg.KubernetesConfig{subscription("found", tt.change)}}, Objects: objects}
			result := run.Handle(t, func(_ context.Context, input *pkg.HookInput) error {
				names, err := objectpatch.UnmarshalToStruct[string](input.Snapshots, "found")
				input.Values.Set("names", names)
				return err
			})
			var got []string
			result.Decode("names", &got)
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// Two subscriptions to the same objects see them through their own filters.
func TestSnapshotsAreApart(t *testing.T) {
	run := Run{
		Config: &pkg.HookConfig{Kubernetes: []pkg.KubernetesConfig{
			subscription("names", nil), subscription("addresses", func(c *pkg.KubernetesConfig) { c.JqFilter = ".spec.clusterIP" }),
		}},
		Objects: []string{"{apiVersion: v1, kind: Service, metadata: {name: dvcr}, spec: {clusterIP: 10.96.0.7}}"},
	}
	result := run.Handle(t, func(_ context.Context, input *pkg.HookInput) error {
		for _, name := range []string{"names", "addresses"} {
			all, err := objectpatch.UnmarshalToStruct[string](input.Snapshots, name)
			if err != nil {
				return err
			}
			input.Values.Set(name, all[0])
		}
		return nil
	})
	if names, addresses := result.String("names"), result.String("addresses"); names != "dvcr" || addresses != "10.96.0.7" {
		t.Errorf("got %s and %s", names, addresses)
	}
}

func TestRunSeesItsValuesAndItsTime(t *testing.T) {
	then := time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)
	result := Run{Config: &pkg.HookConfig{}, Values: "{a: {b: text}}", Now: then}.Handle(t, func(_ context.Context, input *pkg.HookInput) error {
		input.Values.Set("copy", input.Values.Get("a.b").String())
		input.Values.Set("exists", input.Values.Exists("a.none"))
		input.Values.Set("now", input.DC.GetClock().Now())
		return nil
	})
	var exists bool
	var now time.Time
	result.Decode("exists", &exists)
	result.Decode("now", &now)
	if result.String("copy") != "text" || exists || !now.Equal(then) {
		t.Errorf("copied %q, exists %t, now %s", result.String("copy"), exists, now)
	}
	if got := result.Paths(); !slices.Equal(got, []string{"copy", "exists", "now"}) {
		t.Errorf("set %q", got)
	}
}

func TestRunWithoutATimeHasTheRealOne(t *testing.T) {
	before := time.Now()
	Run{Config: &pkg.HookConfig{}}.Handle(t, func(_ context.Context, input *pkg.HookInput) error {
		if now := input.DC.GetClock().Now(); now.Before(before) || now.After(time.Now()) {
			t.Errorf("it is %s", now)
		}
		return nil
	})
}

func TestCreatedObjectsAreKeptInOrder(t *testing.T) {
	result := Run{Config: &pkg.HookConfig{}}.Handle(t, func(_ context.Context, input *pkg.HookInput) error {
		for _, name := range []string{"first", "second"} {
			object := &unstructured.Unstructured{}
			object.SetName(name)
			input.PatchCollector.CreateIfNotExists(object)
		}
		return nil
	})
	if len(result.Created) != 2 || result.Created[0].GetName() != "first" || result.Created[1].GetName() != "second" {
		t.Errorf("created %v", result.Created)
	}
	if len(result.Set) != 0 || len(result.Removed) != 0 {
		t.Errorf("set %v, removed %v", result.Set, result.Removed)
	}
}

func TestFailGivesTheHooksError(t *testing.T) {
	want := errors.New("no")
	err := Run{Config: &pkg.HookConfig{}}.Fail(t, func(context.Context, *pkg.HookInput) error { return want })
	if !errors.Is(err, want) {
		t.Errorf("got %v", err)
	}
}
