// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/types"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// Observed is everything that a decision is made from.
type Observed struct {
	Disk *v1alpha2.VirtualDisk
	Now  time.Time
	// Source is the image that the disk refers to, or nil if it refers to none.
	Source *SourceImage
	// Storage is what is known of the storage classes.
	Storage Storage
	// Claim is the disk's PersistentVolumeClaim, or nil.
	Claim *corev1.PersistentVolumeClaim
	// Filling is the fill that is under way, if any.
	Filling Filling
	// Filler makes the objects of a new fill.
	Filler Filler
	// Machines are those that name the disk, sorted by name.
	Machines []v1alpha2.AttachedVirtualMachine
	// Credential is a fresh one that pulls the source.
	Credential Credential
	// Refusal is set when the plan that was made without it could not be carried out.
	Refusal *shared.Refusal
}

// SourceImage is what the decision needs to know of an image.
type SourceImage struct {
	Kind string
	Name string
	// Found is false if there is no such image; then nothing below is set.
	Found     bool
	UID       types.UID
	Ready     bool
	Phase     v1alpha2.ImagePhase
	Message   string
	CDROM     bool
	Bytes     int64
	Reference string
	// Repository is what a token has to open.
	Repository string
}

// Storage is what the decision needs to know of the storage classes.
type Storage struct {
	// Name is the class that was chosen; empty if none is named and there is no default.
	Name string
	// Class is the one of that name, or nil.
	Class *storagev1.StorageClass
	// Allowed lists the classes that the module's settings allow; empty allows all.
	Allowed []string
	// Profile is CDI's knowledge of the class, or nil.
	Profile *cdiv1.StorageProfile
	// Overhead is the share of a file system that is kept free.
	Overhead float64
	// ClaimClass is the class of the claim that exists, or nil.
	ClaimClass *storagev1.StorageClass
}

// diskOf identifies the disk.
func diskOf(disk *v1alpha2.VirtualDisk) Disk {
	return Disk{Namespace: disk.Namespace, Name: disk.Name, UID: disk.UID}
}

// fillSpec is the order in the user's own words.
func fillSpec(disk *v1alpha2.VirtualDisk) FillSpec {
	out := FillSpec{
		VolumeMode:  disk.Annotations[v1alpha2.AnnotationVolumeMode],
		AccessMode:  disk.Annotations[v1alpha2.AnnotationAccessMode],
		BindingMode: disk.Annotations[v1alpha2.AnnotationBindingMode],
	}
	if name := disk.Spec.PersistentVolumeClaim.StorageClassName; name != nil {
		out.StorageClassName = *name
	}
	if size := disk.Spec.PersistentVolumeClaim.Size; size != nil {
		out.Size = size.String()
	}
	if source := disk.Spec.DataSource; source != nil && source.ObjectRef != nil {
		out.SourceKind, out.SourceName = source.ObjectRef.Kind, source.ObjectRef.Name
	}
	return out
}
