// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// TestWrongSettingIsRefused makes a typo in the ModuleConfig: the refusal names the
// field, and what runs keeps running as it was.
func TestWrongSettingIsRefused(t *testing.T) {
	ctx := deadline(t, time.Minute)
	before := generations(ctx, t)
	cases := []struct {
		name  string
		field []string
		value any
		words []string
	}{
		{"value that is none of the allowed", []string{"logLevel"}, "loud", []string{"logLevel", "debug"}},
		{"name with a typo", []string{"virtualMachineCIDR"}, "10.66.10.0/24", []string{"virtualMachineCIDR"}},
		{"wrong type deep inside", []string{"dvcr", "storage", "persistentVolumeClaim", "size"}, "big", []string{"dvcr.storage.persistentVolumeClaim.size"}},
		{"ranges that machines would fall out of", []string{"virtualMachineCIDRs"}, []any{"10.66.99.0/24"},
			[]string{"virtualMachineCIDRs", "addresses in use are in none of the ranges", "10.66.10."}},
		{"range with nodes in it", []string{"virtualMachineCIDRs"}, []any{"10.66.10.0/24", "10.77.0.0/24"},
			[]string{"virtualMachineCIDRs", "10.77.0.0/24 overlaps the address of node"}},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			config := moduleConfig(ctx, t)
			patched := config.DeepCopy()
			if err := unstructured.SetNestedField(patched.Object, tc.value, append([]string{"spec", "settings"}, tc.field...)...); err != nil {
				t.Fatal(err)
			}
			err := kube.Patch(ctx, patched, client.MergeFrom(config))
			if err == nil {
				t.Fatal("it was accepted")
			}
			for _, word := range tc.words {
				if !strings.Contains(err.Error(), word) {
					t.Errorf("the refusal does not name %q: %v", word, err)
				}
			}
		})
	}
	// Long enough for a Helm run, had there been one.
	time.Sleep(5 * time.Second)
	for name, generation := range generations(ctx, t) {
		if before[name] != generation {
			t.Errorf("%s was changed by settings that were refused", name)
		}
	}
}

func moduleConfig(ctx context.Context, t *testing.T) *unstructured.Unstructured {
	t.Helper()
	config := &unstructured.Unstructured{}
	config.SetAPIVersion("deckhouse.io/v1alpha1")
	config.SetKind("ModuleConfig")
	if err := kube.Get(ctx, client.ObjectKey{Name: "virtualization"}, config); err != nil {
		t.Fatal(err)
	}
	return config
}

func generations(ctx context.Context, t *testing.T) map[string]int64 {
	t.Helper()
	list := &appsv1.DeploymentList{}
	if err := kube.List(ctx, list, client.InNamespace(moduleNamespace)); err != nil {
		t.Fatal(err)
	}
	out := map[string]int64{}
	for _, deployment := range list.Items {
		out[deployment.Name] = deployment.Generation
	}
	if len(out) == 0 {
		t.Fatalf("no Deployment in %s: is the module enabled?", moduleNamespace)
	}
	return out
}
