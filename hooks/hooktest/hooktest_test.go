// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"context"
	"testing"

	"github.com/deckhouse/module-sdk/pkg"
	objectpatch "github.com/deckhouse/module-sdk/pkg/object-patch"
)

func TestSnapshotsAreFilteredAndSelected(t *testing.T) {
	config := &pkg.HookConfig{Kubernetes: []pkg.KubernetesConfig{{
		Name:              "secrets",
		APIVersion:        "v1",
		Kind:              "Secret",
		NamespaceSelector: &pkg.NamespaceSelector{NameSelector: &pkg.NameSelector{MatchNames: []string{"right"}}},
		NameSelector:      &pkg.NameSelector{MatchNames: []string{"wanted"}},
		JqFilter:          ".metadata.labels.color",
	}}}
	run := Run{
		Config: config,
		Values: "{module: {internal: {old: 1}}}",
		Objects: []string{
			"{apiVersion: v1, kind: Secret, metadata: {name: wanted, namespace: right, labels: {color: blue}}}",
			"{apiVersion: v1, kind: Secret, metadata: {name: wanted, namespace: wrong, labels: {color: red}}}",
			"{apiVersion: v1, kind: Secret, metadata: {name: other, namespace: right, labels: {color: red}}}",
			"{apiVersion: v1, kind: ConfigMap, metadata: {name: wanted, namespace: right, labels: {color: red}}}",
		},
	}

	result := run.Handle(t, func(_ context.Context, input *pkg.HookInput) error {
		colors, err := objectpatch.UnmarshalToStruct[string](input.Snapshots, "secrets")
		if err != nil {
			return err
		}
		input.Values.Set("module.internal.colors", colors)
		input.Values.Remove("module.internal.old")
		return nil
	})

	var colors []string
	result.Decode("module.internal.colors", &colors)
	if len(colors) != 1 || colors[0] != "blue" {
		t.Errorf("colors = %v, want [blue]", colors)
	}
	if len(result.Removed) != 1 || result.Removed[0] != "module.internal.old" {
		t.Errorf("removed = %v, want [module.internal.old]", result.Removed)
	}
}
