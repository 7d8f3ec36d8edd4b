// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcrstorage

import (
	"context"
	"encoding/base64"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/deckhouse/virtualization/hooks/lookup"
	"github.com/deckhouse/virtualization/hooks/settings"
)

var claims = schema.GroupVersionResource{Version: "v1", Resource: "persistentvolumeclaims"}

// Objects of the chart by which the present storage is known.
const (
	claimName    = "dvcr"
	bucketSecret = "dvcr-object-storage"
)

// Observe looks what the registry has.
func Observe(ctx context.Context, cluster lookup.Cluster, wanted Storage) (State, error) {
	var state State
	claim, err := cluster.Get(ctx, claims, settings.Namespace, claimName)
	if err != nil {
		return state, err
	}
	if claim != nil {
		if err := state.readVolume(ctx, cluster, claim); err != nil {
			return state, err
		}
	}
	secret, err := cluster.Get(ctx, lookup.Secrets, settings.Namespace, bucketSecret)
	if err != nil {
		return state, err
	}
	if secret != nil {
		state.Bucket = &Bucket{Endpoint: decoded(secret, "regionEndpoint"), Name: decoded(secret, "bucket")}
	}
	if state.moves(wanted) {
		state.Images, err = images(ctx, cluster)
	}
	return state, err
}

func (s *State) readVolume(ctx context.Context, cluster lookup.Cluster, claim *unstructured.Unstructured) error {
	s.Volume = &Volume{}
	s.Volume.Size, _, _ = unstructured.NestedString(claim.Object, "spec", "resources", "requests", "storage")
	s.Volume.Class, _, _ = unstructured.NestedString(claim.Object, "spec", "storageClassName")
	if s.Volume.Class == "" {
		return nil
	}
	class, err := cluster.Get(ctx, lookup.StorageClasses, "", s.Volume.Class)
	if err != nil || class == nil {
		return err
	}
	s.Grows, _, _ = unstructured.NestedBool(class.Object, "allowVolumeExpansion")
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
func images(ctx context.Context, cluster lookup.Cluster) ([]string, error) {
	ofCluster, err := cluster.List(ctx, lookup.Module("clustervirtualimages"))
	if err != nil {
		return nil, err
	}
	ofProjects, err := cluster.List(ctx, lookup.Module("virtualimages"))
	if err != nil {
		return nil, err
	}
	var found []string
	for i := range ofCluster {
		found = append(found, "ClusterVirtualImage "+ofCluster[i].GetName())
	}
	for i := range ofProjects {
		storage, _, _ := unstructured.NestedString(ofProjects[i].Object, "spec", "storage")
		if storage == "" || storage == "ContainerRegistry" {
			found = append(found, "VirtualImage "+ofProjects[i].GetNamespace()+"/"+ofProjects[i].GetName())
		}
	}
	return found, nil
}
