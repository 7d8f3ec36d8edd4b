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
	"k8s.io/apimachinery/pkg/util/wait"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// TestWrongSettingIsRefused makes a typo in the ModuleConfig: its status names the
// field, and what runs keeps running as it was.
func TestWrongSettingIsRefused(t *testing.T) {
	ctx := deadline(t, 3*time.Minute)
	before := generations(ctx, t)
	config := moduleConfig(ctx, t)
	original := config.DeepCopy()
	patched := config.DeepCopy()
	if err := unstructured.SetNestedField(patched.Object, "loud", "spec", "settings", "logLevel"); err != nil {
		t.Fatal(err)
	}
	if err := kube.Patch(ctx, patched, client.MergeFrom(original)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		current := moduleConfig(context.Background(), t)
		restored := current.DeepCopy()
		unstructured.RemoveNestedField(restored.Object, "spec", "settings", "logLevel")
		if level, found, _ := unstructured.NestedString(original.Object, "spec", "settings", "logLevel"); found {
			_ = unstructured.SetNestedField(restored.Object, level, "spec", "settings", "logLevel")
		}
		if err := kube.Patch(context.Background(), restored, client.MergeFrom(current)); err != nil {
			t.Error(err)
		}
		waitForMessage(deadline(t, time.Minute), t, func(message string) bool { return !strings.Contains(message, "logLevel") })
	})
	waitForMessage(ctx, t, func(message string) bool { return strings.Contains(message, "logLevel") })
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

func waitForMessage(ctx context.Context, t *testing.T, done func(string) bool) {
	t.Helper()
	err := wait.PollUntilContextCancel(ctx, 500*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		message, _, _ := unstructured.NestedString(moduleConfig(ctx, t).Object, "status", "message")
		return done(message), nil
	})
	if err != nil {
		shown, _ := yaml.Marshal(moduleConfig(context.Background(), t))
		t.Fatalf("the ModuleConfig's status: %v\n%s", err, shown)
	}
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
