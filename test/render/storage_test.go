// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"maps"
	"slices"
	"strings"
	"testing"
)

// With a bucket there is no volume, and the keys are where only the registry reads them.
func TestImagesInABucket(t *testing.T) {
	objects := render(t, matrix["images in a bucket"])
	if _, found := lookup(objects, "PersistentVolumeClaim", "dvcr"); found {
		t.Error("there is a volume beside the bucket")
	}
	got, _ := at(t, find(t, objects, "Secret", "dvcr-object-storage"), "data").(map[string]any)
	want := map[string]any{
		"region": "cnUtMQ==", "regionEndpoint": "aHR0cHM6Ly9zMy5leGFtcGxlLmNvbQ==", "bucket": "aW1hZ2Vz",
		"accessKey": "QUtJQQ==", "secretKey": "c2VjcmV0",
		"ca.crt": "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkNBCi0tLS0tRU5EIENFUlRJRklDQVRFLS0tLS0K",
	}
	if !maps.Equal(got, want) {
		t.Errorf("the way to the bucket is %v, want %v", got, want)
	}
	for _, w := range workloads(t, objects) {
		var volumes []string
		for _, volume := range w.Template.Spec.Volumes {
			if volume.Secret != nil && volume.Secret.SecretName == "dvcr-object-storage" {
				volumes = append(volumes, volume.Name)
			}
			if volume.PersistentVolumeClaim != nil {
				t.Errorf("%s mounts the volume %s", w.GetName(), volume.PersistentVolumeClaim.ClaimName)
			}
		}
		if (len(volumes) > 0) != (w.GetName() == "dvcr") {
			t.Errorf("%s mounts the keys of the bucket as %v", w.GetName(), volumes)
		}
	}
	for _, arg := range args(t, objects, "dvcr") {
		if strings.Contains(arg, "c2VjcmV0") || strings.Contains(arg, "QUtJQQ") {
			t.Errorf("the argument %s shows a key", arg)
		}
	}
}

func TestNoBucketUnlessAskedFor(t *testing.T) {
	objects := render(t, matrix["least settings"])
	if _, found := lookup(objects, "Secret", "dvcr-object-storage"); found {
		t.Error("there is a Secret for a bucket")
	}
	find(t, objects, "PersistentVolumeClaim", "dvcr")
}

func TestLimitsOfMigrations(t *testing.T) {
	tests := map[string]map[string]any{
		"least settings": {
			"parallelMigrationsPerCluster": 5.0, "parallelOutboundMigrationsPerNode": 2.0, "bandwidthPerMigration": "0",
			"completionTimeoutPerGiB": 150.0, "progressTimeout": 150.0,
		},
		"migrations limited": {
			"parallelMigrationsPerCluster": 10.0, "parallelOutboundMigrationsPerNode": 1.0, "bandwidthPerMigration": "640Mi",
			"completionTimeoutPerGiB": 800.0, "progressTimeout": 300.0,
		},
	}
	for name, want := range tests {
		kubevirt := find(t, render(t, matrix[name]), "KubeVirt", "kubevirt")
		got, _ := at(t, kubevirt, "spec.configuration.migrations").(map[string]any)
		if len(got) != len(want) {
			t.Errorf("%s: limits %v, want %v", name, slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
		}
		for key, value := range want {
			found := got[key]
			if _, text := value.(string); !text {
				found = number(t, found)
			}
			if found != value {
				t.Errorf("%s: %s = %v, want %v", name, key, found, value)
			}
		}
	}
}

// The engine's components read the level while they run.
func TestLevelOfTheEnginesLogs(t *testing.T) {
	for name, want := range map[string]float64{"least settings": 2, "logs for machines": 4} {
		objects := render(t, matrix[name])
		got, _ := at(t, find(t, objects, "KubeVirt", "kubevirt"), "spec.configuration.developerConfiguration.logVerbosity").(map[string]any)
		for _, component := range []string{"virtAPI", "virtController", "virtHandler", "virtLauncher", "virtOperator"} {
			if level := number(t, got[component]); level != want {
				t.Errorf("%s: %s logs at %v, want %v", name, component, level, want)
			}
		}
		if level := number(t, at(t, find(t, objects, "CDI", "cdi"), "spec.config.logVerbosity")); level != want {
			t.Errorf("%s: CDI logs at %v, want %v", name, level, want)
		}
	}
}

// Every program of the module's own logs as the settings say; the engine's have no format to choose.
func TestEveryProgramLogsAsAsked(t *testing.T) {
	objects := render(t, matrix["logs for machines"])
	own := []string{"virtualization-controller", "virtualization-api", "dvcr", "vm-router"}
	for _, name := range own {
		got := args(t, objects, name)
		for _, want := range []string{"--log-level=debug", "--log-format=json"} {
			if !slices.Contains(got, want) {
				t.Errorf("%s is not told %s", name, want)
			}
		}
	}
	for _, w := range workloads(t, objects) {
		if !slices.Contains(append(own, "virt-operator", "cdi-operator"), w.GetName()) {
			t.Errorf("nobody says how %s logs", w.GetName())
		}
	}
}
