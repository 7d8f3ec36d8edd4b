// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"
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
		{"range with services in it", []string{"virtualMachineCIDRs"}, []any{"10.66.10.0/24", "10.96.8.0/24"},
			[]string{"virtualMachineCIDRs", "10.96.8.0/24 overlaps the subnet of the services"}},
		{"range with pods in it", []string{"virtualMachineCIDRs"}, []any{"10.66.10.0/24", "10.244.200.0/24"},
			[]string{"virtualMachineCIDRs", "10.244.200.0/24 overlaps the subnet of the pods"}},
		{"registry that would shrink", []string{"dvcr", "storage", "persistentVolumeClaim", "size"}, "1Gi",
			[]string{"dvcr.storage.persistentVolumeClaim.size", "can't shrink to 1Gi"}},
		{"registry without its storage", []string{"dvcr", "storage", "type"}, "ObjectStorage",
			[]string{"dvcr.storage.objectStorage: is required"}},
		{"class that does not exist", []string{"virtualDisks"}, map[string]any{"defaultStorageClassName": "quick"},
			[]string{"virtualDisks.defaultStorageClassName", "there is no StorageClass quick"}},
		{"certificate that does not exist", []string{"https"}, map[string]any{"mode": "CustomCertificate", "customCertificate": map[string]any{"secretName": "none"}},
			[]string{"https.customCertificate.secretName", "there is no Secret none"}},
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
				// The tests that follow are not to run with it.
				patched.Object["spec"] = config.Object["spec"]
				t.Fatal("it was accepted; put back:", kube.Update(ctx, patched))
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

// TestSettingsOfVersionOneAreTaken asks, without carrying it out, for settings under the names that they had first.
func TestSettingsOfVersionOneAreTaken(t *testing.T) {
	ctx := deadline(t, time.Minute)
	config := moduleConfig(ctx, t)
	old := config.DeepCopy()
	settings, _, err := unstructured.NestedMap(old.Object, "spec", "settings")
	if err != nil {
		t.Fatal(err)
	}
	settings["vmipCIDRs"] = settings["virtualMachineCIDRs"]
	delete(settings, "virtualMachineCIDRs")
	for version, word := range map[int64]string{1: "", 2: "vmipCIDRs"} {
		if err := unstructured.SetNestedMap(old.Object, settings, "spec", "settings"); err != nil {
			t.Fatal(err)
		}
		if err := unstructured.SetNestedField(old.Object, version, "spec", "version"); err != nil {
			t.Fatal(err)
		}
		err := kube.Update(ctx, old.DeepCopy(), client.DryRunAll)
		if (err == nil) != (word == "") || (err != nil && !strings.Contains(err.Error(), word)) {
			t.Errorf("version %d: %v", version, err)
		}
	}
}

// TestSettingRestartsOnlyWhatItConcerns changes the schedule of the registry's garbage collection, and with it limits
// of migrations: the registry gets a new pod, and nobody else.
func TestSettingRestartsOnlyWhatItConcerns(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	config := moduleConfig(ctx, t)
	before := podsOfTheModule(ctx, t)
	changed := config.DeepCopy()
	for _, setting := range []struct {
		path  []string
		value any
	}{
		{[]string{"dvcr", "gc", "schedule"}, "17 * * * *"},
		{[]string{"liveMigration", "progressTimeout"}, int64(151)},
	} {
		if err := unstructured.SetNestedField(changed.Object, setting.value, append([]string{"spec", "settings"}, setting.path...)...); err != nil {
			t.Fatal(err)
		}
	}
	if err := kube.Patch(ctx, changed, client.MergeFrom(config)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { restoreSettings(t, config) })
	waitForRegistry(ctx, t, "--gc-schedule=17 * * * *")
	engine := &virtv1.KubeVirt{}
	if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: "kubevirt"}, engine); err != nil {
		t.Fatal(err)
	}
	if limits := engine.Spec.Configuration.MigrationConfiguration; limits == nil || *limits.ProgressTimeout != 151 {
		t.Errorf("the engine's limits are %+v", limits)
	}
	after := podsOfTheModule(ctx, t)
	for uid, name := range before {
		if _, there := after[uid]; !there && !strings.HasPrefix(name, "dvcr-") {
			t.Errorf("%s was replaced, too", name)
		}
	}
}

// podsOfTheModule are the pods of its workloads, by uid. Importers come and go by themselves.
func podsOfTheModule(ctx context.Context, t *testing.T) map[types.UID]string {
	t.Helper()
	list := &corev1.PodList{}
	if err := kube.List(ctx, list, client.InNamespace(moduleNamespace)); err != nil {
		t.Fatal(err)
	}
	pods := map[types.UID]string{}
	for i := range list.Items {
		owner := metav1.GetControllerOf(&list.Items[i])
		if owner != nil && (owner.Kind == "ReplicaSet" || owner.Kind == "DaemonSet") {
			pods[list.Items[i].UID] = list.Items[i].Name
		}
	}
	return pods
}

// waitForRegistry waits until the registry runs with the argument, and nothing else of it does.
func waitForRegistry(ctx context.Context, t *testing.T, argument string) {
	t.Helper()
	for ; ; time.Sleep(time.Second) {
		registry := &appsv1.Deployment{}
		if err := kube.Get(ctx, client.ObjectKey{Namespace: moduleNamespace, Name: "dvcr"}, registry); err != nil {
			t.Fatal(err)
		}
		status := registry.Status
		if slices.Contains(registry.Spec.Template.Spec.Containers[0].Args, argument) && status.ObservedGeneration == registry.Generation &&
			status.UpdatedReplicas == 1 && status.AvailableReplicas == 1 && status.Replicas == 1 {
			return
		}
	}
}

// restoreSettings puts the settings back and waits for the registry, which other tests need.
func restoreSettings(t *testing.T, config *unstructured.Unstructured) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	settings, _, err := unstructured.NestedMap(config.Object, "spec", "settings")
	if err != nil {
		t.Fatal(err)
	}
	now := moduleConfig(ctx, t)
	if err := unstructured.SetNestedMap(now.Object, settings, "spec", "settings"); err != nil {
		t.Fatal(err)
	}
	if err := kube.Update(ctx, now); err != nil {
		t.Fatal(err)
	}
	schedule, found, _ := unstructured.NestedString(settings, "dvcr", "gc", "schedule")
	if !found {
		schedule = "0 * * * *"
	}
	waitForRegistry(ctx, t, "--gc-schedule="+schedule)
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
