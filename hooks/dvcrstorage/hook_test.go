// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrstorage

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	claim  = "{metadata: {name: dvcr, namespace: d8-virtualization}, spec: {storageClassName: fast, resources: {requests: {storage: 20Gi}}}}"
	plain  = "{metadata: {name: dvcr, namespace: d8-virtualization}, spec: {resources: {requests: {storage: 20Gi}}}}"
	others = "{metadata: {name: dvcr, namespace: default}, spec: {storageClassName: slow, resources: {requests: {storage: 2Ti}}}}"
	secret = "{metadata: {name: dvcr-object-storage, namespace: d8-virtualization}, data: {regionEndpoint: aHR0cHM6Ly9zMy5leGFtcGxlLmNvbQ==, bucket: aW1hZ2Vz}}"
	image  = "{metadata: {name: debian}}"
	fast   = "{metadata: {name: fast}, allowVolumeExpansion: true}"

	inBucket = "{type: ObjectStorage, objectStorage: {s3: {regionEndpoint: 'https://s3.example.com', bucket: images}}, persistentVolumeClaim: {size: 1Gi}}"
	path     = "virtualization.internal.dvcr.storageClassName"
)

func objects(pairs ...string) hooktest.Cluster {
	cluster := hooktest.Cluster{Objects: map[string][]string{"storageclasses": {fast}}}
	for pair := range slices.Chunk(pairs, 2) {
		cluster.Objects[pair[0]] = append(cluster.Objects[pair[0]], pair[1])
	}
	return cluster
}

func run(cluster hooktest.Cluster, storage, internal string) hooktest.Run {
	return hooktest.Run{Config: Config, Client: cluster, Values: "{virtualization: {internal: {dvcr: " + internal + "}, dvcr: {storage: " + storage + "}}}"}
}

var full = objects("persistentvolumeclaims", claim, "persistentvolumeclaims", others, "clustervirtualimages", image)

// Whatever the settings leave to the cluster: the class that the volume has is the one that Helm goes on with.
func TestTheVolumeKeepsItsClass(t *testing.T) {
	for name, storage := range map[string]string{
		"as it is":       "{persistentVolumeClaim: {size: 20Gi, storageClassName: fast}}",
		"left to others": "{persistentVolumeClaim: {size: 20Gi}}",
		"larger":         "{persistentVolumeClaim: {size: 1Ti}}",
	} {
		if got := run(full, storage, "{}").Handle(t, Handle).String(path); got != "fast" {
			t.Errorf("%s: class %q", name, got)
		}
	}
}

func TestNoVolumeNoClass(t *testing.T) {
	for name, tc := range map[string]struct {
		cluster hooktest.Cluster
		storage string
	}{
		"new":                       {objects("persistentvolumeclaims", others), "{persistentVolumeClaim: {size: 1Gi, storageClassName: any}}"},
		"of a class without a name": {objects("persistentvolumeclaims", plain), "{persistentVolumeClaim: {size: 20Gi}}"},
		"in a bucket":               {objects("secrets", secret, "clustervirtualimages", image), inBucket},
	} {
		result := run(tc.cluster, tc.storage, "{storageClassName: old}").Handle(t, Handle)
		if !slices.Equal(result.Removed, []string{path}) || len(result.Set) > 0 {
			t.Errorf("%s: removed %v, set %v", name, result.Removed, result.Paths())
		}
		result = run(tc.cluster, tc.storage, "{}").Handle(t, Handle)
		if len(result.Removed) > 0 || len(result.Set) > 0 {
			t.Errorf("%s: removed %v, set %v for the second time", name, result.Removed, result.Paths())
		}
	}
}

func TestWhatTheStorageCannotFollow(t *testing.T) {
	for storage, want := range map[string]string{
		"{persistentVolumeClaim: {size: 19Gi}}":                         "has 20Gi and can't shrink to 19Gi",
		"{persistentVolumeClaim: {size: 20Gi, storageClassName: slow}}": "of the class fast, which can't be changed to slow",
		"{persistentVolumeClaim: {size: much}}":                         `"much" is no size`,
		"{type: PersistentVolumeClaim}":                                 "dvcr.storage.persistentVolumeClaim: is required where dvcr.storage.type is PersistentVolumeClaim",
		"{objectStorage: {}}":                                           "dvcr.storage.persistentVolumeClaim: is required",
		"{type: ObjectStorage, persistentVolumeClaim: {size: 20Gi}}":    "dvcr.storage.objectStorage: is required where dvcr.storage.type is ObjectStorage",
		// Helm would delete the volume with the images.
		inBucket: "dvcr.storage: the registry holds 1 images (ClusterVirtualImage debian is one), and they are not moved to another storage",
	} {
		if got := run(full, storage, "{}").Fail(t, Handle); !strings.Contains(got.Error(), want) {
			t.Errorf("%s: got %v, want %q", storage, got, want)
		}
	}
	fixed := objects("persistentvolumeclaims", claim)
	fixed.Objects["storageclasses"] = nil
	if got := run(fixed, "{persistentVolumeClaim: {size: 30Gi}}", "{}").Fail(t, Handle); !strings.Contains(got.Error(), "StorageClass fast lets no volume grow") {
		t.Errorf("got %v", got)
	}
}

func TestAClusterThatGivesNoAnswer(t *testing.T) {
	for _, resource := range []string{"persistentvolumeclaims", "secrets", "storageclasses", "virtualimages", "clustervirtualimages"} {
		cluster := objects("persistentvolumeclaims", claim)
		cluster.Problems = map[string]error{resource: errors.New("broken")}
		if got := run(cluster, inBucket, "{}").Fail(t, Handle); !strings.Contains(got.Error(), resource+" can't be read from the cluster now, try again: broken") {
			t.Errorf("%s: got %v", resource, got)
		}
	}
	lonely := run(hooktest.Cluster{}, inBucket, "{}")
	lonely.Client = nil
	if got := lonely.Fail(t, Handle); !strings.Contains(got.Error(), "the cluster can't be asked now, try again") {
		t.Errorf("got %v", got)
	}
}

func TestSizesThatCannotBeRead(t *testing.T) {
	state := State{Volume: &Volume{Size: "?"}}
	if err := state.Judge(Storage{Volume: Volume{Size: "1Gi"}}); err == nil || !strings.Contains(err.Error(), "can't be read") {
		t.Errorf("got %v", err)
	}
}
