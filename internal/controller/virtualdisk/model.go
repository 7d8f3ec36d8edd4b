// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/controller/shared/origin"
	"github.com/deckhouse/virtualization/internal/controller/shared/usage"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
)

// Observed is everything that a decision is made from.
type Observed struct {
	Disk *v1alpha2.VirtualDisk
	Now  time.Time
	// Origin is what the data source comes down to, Trouble what is wrong with it; a
	// blank disk has neither.
	Origin  origin.Origin
	Trouble *origin.Trouble
	// SourceClaim is the claim that is to be copied, or nil.
	SourceClaim *corev1.PersistentVolumeClaim
	// Storage is what is known of the storage classes.
	Storage filling.Storage
	// Claim is the disk's PersistentVolumeClaim, or nil.
	Claim *corev1.PersistentVolumeClaim
	// Filling is the fill that is under way, if any.
	Filling filling.Filling
	// Filler makes the objects of a new fill.
	Filler filling.Filler
	// Inspector is the importer that only looks at the source, or nil.
	Inspector *corev1.Pod
	// Machines are those that name the disk, sorted by name.
	Machines []v1alpha2.AttachedVirtualMachine
	// Copies are the images that are being made from the disk, sorted.
	Copies []usage.User
	// Credential is a fresh one for the inspector.
	Credential importerpod.Credential
	Settings   importerpod.Settings
	// Refusal is set when the plan that was made without it could not be carried out.
	Refusal *shared.Refusal
}

// ownerOf identifies the disk as the owner of a volume.
func ownerOf(disk *v1alpha2.VirtualDisk) filling.Owner {
	return filling.Owner{Kind: v1alpha2.VirtualDiskKind, Namespace: disk.Namespace, Name: disk.Name, UID: disk.UID}
}

// subjectOf is whom the disk's inspector speaks for.
func subjectOf(disk *v1alpha2.VirtualDisk) token.Subject {
	return token.Subject{Kind: v1alpha2.VirtualDiskKind, Namespace: disk.Namespace, Name: disk.Name, UID: string(disk.UID)}
}

// fillHash identifies the order in the user's own words: nothing in it changes unless
// the user changes the disk.
func fillHash(disk *v1alpha2.VirtualDisk) string {
	return filling.HashOf(struct {
		Source  *v1alpha2.VirtualDiskDataSource
		Volume  v1alpha2.VirtualDiskPersistentVolumeClaim
		Mode    string
		Access  string
		Binding string
	}{
		disk.Spec.DataSource, disk.Spec.PersistentVolumeClaim, disk.Annotations[v1alpha2.AnnotationVolumeMode],
		disk.Annotations[v1alpha2.AnnotationAccessMode], disk.Annotations[v1alpha2.AnnotationBindingMode],
	})
}

// sourceHash identifies what the inspector looks at.
func sourceHash(disk *v1alpha2.VirtualDisk) string { return filling.HashOf(disk.Spec.DataSource) }

// words are the data source in the form that all kinds share.
func words(disk *v1alpha2.VirtualDisk) origin.Words {
	source := disk.Spec.DataSource
	out := origin.Words{Type: source.Type, HTTP: source.HTTP, Upload: source.Upload}
	if image := source.ContainerImage; image != nil {
		out.ContainerImage = &origin.ContainerImage{Image: string(image.Image), CABundle: image.CABundle}
		if secret := pullSecret(disk); secret != "" {
			out.ContainerImage.Secret = types.NamespacedName{Namespace: disk.Namespace, Name: secret}
		}
	}
	if ref := source.ObjectRef; ref != nil {
		out.Object = &origin.Object{Kind: ref.Kind, Namespace: disk.Namespace, Name: ref.Name}
		if ref.Kind == v1alpha2.ClusterVirtualImageKind {
			out.Object.Namespace = ""
		}
	}
	return out
}

// pullSecret is the name of the Secret that the source is read with, or empty.
func pullSecret(disk *v1alpha2.VirtualDisk) string {
	source := disk.Spec.DataSource
	if source == nil || source.ContainerImage == nil || source.ContainerImage.ImagePullSecret == nil {
		return ""
	}
	return source.ContainerImage.ImagePullSecret.Name
}
