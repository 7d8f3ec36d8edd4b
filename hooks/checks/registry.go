// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package checks

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/settingscheck"

	"github.com/deckhouse/virtualization/hooks/dvcrvolume"
	"github.com/deckhouse/virtualization/hooks/settings"
)

const (
	storagePath = "dvcr.storage"
	// bucketSecret is what the chart keeps the way to the bucket in.
	bucketSecret = "dvcr-object-storage"
)

// bucket is where images are kept in an object storage.
type bucket struct{ endpoint, name string }

// registryStorage is where images are to be kept: in a volume unless there is a bucket.
type registryStorage struct {
	volume dvcrvolume.Volume
	bucket *bucket
}

// registryState is what the registry has now; both are nil before it has anything.
type registryState struct {
	volume *dvcrvolume.Volume
	// grows says whether the class of the volume lets it grow.
	grows  bool
	bucket *bucket
	// images are some that the registry holds.
	images []string
	// classes are those of the cluster.
	classes []string
}

// Registry refuses a storage of the registry that the present one can't become.
func Registry(ctx context.Context, input settingscheck.Input) settingscheck.Result {
	if err := dvcrvolume.Complete(input.Settings.Get(dvcrvolume.TypePath).String(),
		input.Settings.Exists(dvcrvolume.VolumePath), input.Settings.Exists(dvcrvolume.BucketPath)); err != nil {
		return verdict(err)
	}
	wanted := wantedStorage(input.Settings)
	c, err := clusterOf(input)
	if err != nil {
		return verdict(err)
	}
	state, err := c.registryState(ctx, wanted)
	if err != nil {
		return verdict(err)
	}
	return verdict(judgeRegistry(wanted, state))
}

func wantedStorage(values pkg.ReadableValuesCollector) registryStorage {
	at := func(path string) string { return values.Get(storagePath + "." + path).String() }
	if at("type") != dvcrvolume.InBucket {
		return registryStorage{volume: dvcrvolume.Volume{Size: at("persistentVolumeClaim.size"), Class: at("persistentVolumeClaim.storageClassName")}}
	}
	return registryStorage{bucket: &bucket{endpoint: at("objectStorage.s3.regionEndpoint"), name: at("objectStorage.s3.bucket")}}
}

func (c cluster) registryState(ctx context.Context, wanted registryStorage) (registryState, error) {
	var state registryState
	claim, err := c.get(ctx, claimResource, settings.Namespace, "dvcr")
	if err != nil {
		return state, err
	}
	if claim != nil {
		if err := c.readVolume(ctx, claim, &state); err != nil {
			return state, err
		}
	}
	secret, err := c.get(ctx, secretResource, settings.Namespace, bucketSecret)
	if err != nil {
		return state, err
	}
	if secret != nil {
		state.bucket = &bucket{endpoint: decoded(secret, "regionEndpoint"), name: decoded(secret, "bucket")}
	}
	if wanted.volume.Class != "" && state.volume == nil {
		classes, err := c.list(ctx, classResource)
		if err != nil {
			return state, err
		}
		for i := range classes {
			state.classes = append(state.classes, classes[i].GetName())
		}
		slices.Sort(state.classes)
	}
	if moves(wanted, state) {
		state.images, err = c.images(ctx)
	}
	return state, err
}

func (c cluster) readVolume(ctx context.Context, claim *unstructured.Unstructured, state *registryState) error {
	volume := dvcrvolume.Volume{}
	volume.Size, _, _ = unstructured.NestedString(claim.Object, "spec", "resources", "requests", "storage")
	volume.Class, _, _ = unstructured.NestedString(claim.Object, "spec", "storageClassName")
	state.volume = &volume
	if volume.Class == "" {
		return nil
	}
	class, err := c.get(ctx, classResource, "", volume.Class)
	if err != nil || class == nil {
		return err
	}
	state.grows, _, _ = unstructured.NestedBool(class.Object, "allowVolumeExpansion")
	return nil
}

func decoded(secret *unstructured.Unstructured, key string) string {
	text, _, _ := unstructured.NestedString(secret.Object, "data", key)
	value, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		return ""
	}
	return string(value)
}

// images lists those whose bytes are in the registry; images on volumes are not.
func (c cluster) images(ctx context.Context) ([]string, error) {
	clusterImages, err := c.list(ctx, clusterImageResource)
	if err != nil {
		return nil, err
	}
	images, err := c.list(ctx, imageResource)
	if err != nil {
		return nil, err
	}
	var found []string
	for i := range clusterImages {
		found = append(found, "ClusterVirtualImage "+clusterImages[i].GetName())
	}
	for i := range images {
		storage, _, _ := unstructured.NestedString(images[i].Object, "spec", "storage")
		if storage == "" || storage == "ContainerRegistry" {
			found = append(found, "VirtualImage "+images[i].GetNamespace()+"/"+images[i].GetName())
		}
	}
	return found, nil
}

// moves tells whether the images would be looked for in another place than they are in.
func moves(wanted registryStorage, state registryState) bool {
	switch {
	case state.bucket != nil:
		return wanted.bucket == nil || *wanted.bucket != *state.bucket
	case state.volume != nil:
		return wanted.bucket != nil
	}
	return false
}

func judgeRegistry(wanted registryStorage, state registryState) error {
	if moves(wanted, state) && len(state.images) > 0 {
		return fmt.Errorf("%s: the registry holds %d images (%s is one), and they are not moved to another storage: "+
			"keep the storage, or delete the images first", storagePath, len(state.images), state.images[0])
	}
	if wanted.bucket != nil {
		return nil
	}
	if state.volume == nil {
		if text := missingClass(dvcrvolume.ClassPath, wanted.volume.Class, state.classes); wanted.volume.Class != "" && text != "" {
			return errors.New(text)
		}
		return nil
	}
	return dvcrvolume.Judge(wanted.volume, *state.volume, state.grows)
}
