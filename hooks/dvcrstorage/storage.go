// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dvcrvolume refuses settings that the registry's volume can't follow: it grows, but never shrinks, and stays of
// its class.
//
// The check of settings answers whoever applies a ModuleConfig. The hook before Helm is for what that did not see, such
// as a volume that came a moment later; without it Helm would fail in the middle, and say less.
package dvcrvolume

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"
)

// Names under which users know the settings.
const (
	TypePath   = "dvcr.storage.type"
	VolumePath = "dvcr.storage.persistentVolumeClaim"
	BucketPath = "dvcr.storage.objectStorage"

	SizePath  = "dvcr.storage.persistentVolumeClaim.size"
	ClassPath = "dvcr.storage.persistentVolumeClaim.storageClassName"
)

// InBucket is the type of storage that is no volume.
const InBucket = "ObjectStorage"

// Volume is the registry's, as it is or as it is to be.
type Volume struct {
	// Size is a quantity of bytes.
	Size string `json:"size"`
	// Class is the name of its StorageClass; empty leaves it to the cluster.
	Class string `json:"class"`
}

// Complete tells which part of the settings is missing for the type of storage that they ask for; nil if none is.
func Complete(kind string, hasVolume, hasBucket bool) error {
	switch {
	case kind == InBucket && !hasBucket:
		return fmt.Errorf("%s: is required where %s is %s", BucketPath, TypePath, kind)
	case kind != InBucket && !hasVolume:
		return fmt.Errorf("%s: is required where %s is PersistentVolumeClaim, its default", VolumePath, TypePath)
	}
	return nil
}

// Judge tells why the volume can't become what is wanted; nil if it can. Grows says whether its class lets it grow.
func Judge(wanted, present Volume, grows bool) error {
	if wanted.Class != "" && present.Class != "" && wanted.Class != present.Class {
		return fmt.Errorf("%s: the registry's volume is of the class %s, which can't be changed to %s while it exists: set it to %s",
			ClassPath, present.Class, wanted.Class, present.Class)
	}
	size, err := resource.ParseQuantity(wanted.Size)
	if err != nil {
		return fmt.Errorf("%s: %q is no size, such as 60Gi", SizePath, wanted.Size)
	}
	has, err := resource.ParseQuantity(present.Size)
	if err != nil {
		return fmt.Errorf("the size of the registry's volume can't be read: %w", err)
	}
	switch size.Cmp(has) {
	case -1:
		return fmt.Errorf("%s: the registry's volume has %s and can't shrink to %s: set %s or more", SizePath, present.Size, wanted.Size, present.Size)
	case 1:
		if !grows {
			return fmt.Errorf("%s: the registry's volume has %s, and its StorageClass %s lets no volume grow: set %s, "+
				"or allowVolumeExpansion: true in the class if the storage can do it", SizePath, present.Size, present.Class, present.Size)
		}
	}
	return nil
}
