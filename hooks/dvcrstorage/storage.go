// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dvcrstorage refuses settings that the registry's storage can't follow. Its volume grows, but never shrinks, and
// stays of its class; and images are not moved from one storage to another.
//
// The check of settings answers whoever applies a ModuleConfig. The hook before Helm is for what came a moment later, or
// past the check: without it Helm would fail in the middle, or delete a volume with images.
package dvcrstorage

import (
	"fmt"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/deckhouse/module-sdk/pkg"
)

// Names under which users know the settings.
const (
	Path       = "dvcr.storage"
	TypePath   = Path + ".type"
	VolumePath = Path + ".persistentVolumeClaim"
	BucketPath = Path + ".objectStorage"

	SizePath  = VolumePath + ".size"
	ClassPath = VolumePath + ".storageClassName"
)

// InBucket is the type of storage that is no volume.
const InBucket = "ObjectStorage"

// Volume is the registry's, as it is or as it is to be.
type Volume struct {
	// Size is a quantity of bytes.
	Size string
	// Class is the name of its StorageClass; empty leaves it to the cluster.
	Class string
}

// Bucket is where images are kept in an object storage.
type Bucket struct{ Endpoint, Name string }

// Storage is where images are to be kept: in the volume unless there is a bucket.
type Storage struct {
	Volume Volume
	Bucket *Bucket
}

// State is what the registry has now; both storages are nil before it has any.
type State struct {
	Volume *Volume
	// Grows says whether the class of the volume lets it grow.
	Grows  bool
	Bucket *Bucket
	// Images are those that the registry holds. They are only looked for where they would be left behind.
	Images []string
}

// Wanted reads the settings, which are below a prefix of the values. Its error names the part that is missing for the
// type of storage.
func Wanted(values pkg.ReadableValuesCollector, prefix string) (Storage, error) {
	at := func(path string) string { return values.Get(prefix + path).String() }
	inBucket := at(TypePath) == InBucket
	switch {
	case inBucket && !values.Exists(prefix+BucketPath):
		return Storage{}, fmt.Errorf("%s: is required where %s is %s", BucketPath, TypePath, InBucket)
	case inBucket:
		return Storage{Bucket: &Bucket{Endpoint: at(BucketPath + ".s3.regionEndpoint"), Name: at(BucketPath + ".s3.bucket")}}, nil
	case !values.Exists(prefix + VolumePath):
		return Storage{}, fmt.Errorf("%s: is required where %s is PersistentVolumeClaim, its default", VolumePath, TypePath)
	}
	return Storage{Volume: Volume{Size: at(SizePath), Class: at(ClassPath)}}, nil
}

// moves tells whether the images would be looked for in another place than they are in.
func (s State) moves(wanted Storage) bool {
	switch {
	case s.Bucket != nil:
		return wanted.Bucket == nil || *wanted.Bucket != *s.Bucket
	case s.Volume != nil:
		return wanted.Bucket != nil
	}
	return false
}

// Judge tells why the storage can't become what is wanted; nil if it can.
func (s State) Judge(wanted Storage) error {
	if s.moves(wanted) && len(s.Images) > 0 {
		return fmt.Errorf("%s: the registry holds %d images (%s is one), and they are not moved to another storage: "+
			"keep the storage, or delete the images first", Path, len(s.Images), s.Images[0])
	}
	if wanted.Bucket != nil || s.Volume == nil {
		return nil
	}
	return s.Volume.judge(wanted.Volume, s.Grows)
}

func (v Volume) judge(wanted Volume, grows bool) error {
	if wanted.Class != "" && v.Class != "" && wanted.Class != v.Class {
		return fmt.Errorf("%s: the registry's volume is of the class %s, which can't be changed to %s while it exists: set it to %s",
			ClassPath, v.Class, wanted.Class, v.Class)
	}
	size, err := resource.ParseQuantity(wanted.Size)
	if err != nil {
		return fmt.Errorf("%s: %q is no size, such as 60Gi", SizePath, wanted.Size)
	}
	has, err := resource.ParseQuantity(v.Size)
	if err != nil {
		return fmt.Errorf("the size of the registry's volume can't be read: %w", err)
	}
	switch size.Cmp(has) {
	case -1:
		return fmt.Errorf("%s: the registry's volume has %s and can't shrink to %s: set %s or more", SizePath, v.Size, wanted.Size, v.Size)
	case 1:
		if !grows {
			return fmt.Errorf("%s: the registry's volume has %s, and its StorageClass %s lets no volume grow: set %s, "+
				"or allowVolumeExpansion: true in the class if the storage can do it", SizePath, v.Size, v.Class, v.Size)
		}
	}
	return nil
}
