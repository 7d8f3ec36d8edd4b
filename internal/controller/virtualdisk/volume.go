// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"
	"math"
	"slices"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	mebibyte = 1 << 20
	// defaultOverhead is the share of a file system that CDI keeps free for the
	// file system itself when its configuration says nothing.
	defaultOverhead = 0.06
	// bindingImmediate is the only value of the binding-mode annotation.
	bindingImmediate = "Immediate"
	// annotationDefaultClass marks the cluster's default storage class.
	annotationDefaultClass = "storageclass.kubernetes.io/is-default-class"
)

// Modes say how the volume of a disk is used.
type Modes struct {
	Volume corev1.PersistentVolumeMode
	Access corev1.PersistentVolumeAccessMode
	// Immediate tells that the volume does not wait for its first consumer.
	Immediate bool
}

// chooseModes takes each mode from the most specific place that names one: the
// disk, its storage class, CDI's knowledge of the storage, the safe default.
func chooseModes(disk map[string]string, class *storagev1.StorageClass, profile *cdiv1.StorageProfile) Modes {
	fromProfile := bestProfile(profile)
	volume := firstOf(disk[v1alpha2.AnnotationVolumeMode], class.Annotations[v1alpha2.AnnotationVolumeMode])
	access := firstOf(disk[v1alpha2.AnnotationAccessMode], class.Annotations[v1alpha2.AnnotationAccessMode])
	out := Modes{
		Volume: corev1.PersistentVolumeMode(firstOf(volume, string(fromProfile.Volume))),
		Access: corev1.PersistentVolumeAccessMode(firstOf(access, string(fromProfile.Access))),
		Immediate: firstOf(disk[v1alpha2.AnnotationBindingMode], class.Annotations[v1alpha2.AnnotationBindingMode]) ==
			bindingImmediate,
	}
	return out
}

// checkModes names the annotation that holds a word nobody knows.
func checkModes(modes Modes) string {
	switch modes.Volume {
	case corev1.PersistentVolumeBlock, corev1.PersistentVolumeFilesystem:
	default:
		return fmt.Sprintf("annotation %s: %q is unknown; use Block or Filesystem", v1alpha2.AnnotationVolumeMode, modes.Volume)
	}
	switch modes.Access {
	case corev1.ReadWriteOnce, corev1.ReadWriteMany:
		return ""
	}
	return fmt.Sprintf("annotation %s: %q is unknown; use ReadWriteOnce or ReadWriteMany", v1alpha2.AnnotationAccessMode, modes.Access)
}

// bestProfile picks from what CDI knows the modes that suit machines best: those
// that let a machine migrate first, then those without a file system in between.
func bestProfile(profile *cdiv1.StorageProfile) Modes {
	best := Modes{Volume: corev1.PersistentVolumeFilesystem, Access: corev1.ReadWriteOnce}
	if profile == nil {
		return best
	}
	bestRank := 0
	for _, set := range profile.Status.ClaimPropertySets {
		volume := corev1.PersistentVolumeFilesystem
		if set.VolumeMode != nil {
			volume = *set.VolumeMode
		}
		for _, access := range set.AccessModes {
			if rank := modeRank(volume, access); rank > bestRank {
				best, bestRank = Modes{Volume: volume, Access: access}, rank
			}
		}
	}
	return best
}

func modeRank(volume corev1.PersistentVolumeMode, access corev1.PersistentVolumeAccessMode) int {
	order := []Modes{
		{Volume: corev1.PersistentVolumeFilesystem, Access: corev1.ReadWriteOnce},
		{Volume: corev1.PersistentVolumeBlock, Access: corev1.ReadWriteOnce},
		{Volume: corev1.PersistentVolumeFilesystem, Access: corev1.ReadWriteMany},
		{Volume: corev1.PersistentVolumeBlock, Access: corev1.ReadWriteMany},
	}
	return slices.Index(order, Modes{Volume: volume, Access: access}) + 1
}

// claimSize is the size of the claim that holds content of the given size.
func claimSize(content int64, volume corev1.PersistentVolumeMode, overhead float64) int64 {
	if volume == corev1.PersistentVolumeFilesystem {
		// The engine reckons in whole mebibytes and puts its share on top.
		content = roundUp(content)
		content = int64(math.Ceil(float64(content) * (1 + overhead)))
	}
	return roundUp(content)
}

// chooseSize is the size of the claim, or the arithmetic of why there is none.
func chooseSize(wanted *resource.Quantity, content int64, volume corev1.PersistentVolumeMode, overhead float64) (resource.Quantity, string) {
	const field = "spec.persistentVolumeClaim.size"
	need := claimSize(content, volume, overhead)
	if wanted == nil {
		if content == 0 {
			return resource.Quantity{}, field + ": a blank disk needs it; set it, for example to 10Gi"
		}
		return *quantity(need), ""
	}
	if wanted.Sign() <= 0 {
		return resource.Quantity{}, fmt.Sprintf("%s: %s is not positive; raise it", field, wanted)
	}
	have := roundUp(wanted.Value())
	if have >= need {
		return *quantity(have), ""
	}
	reckoning := fmt.Sprintf("the image unpacks to %s", quantity(roundUp(content)))
	if volume == corev1.PersistentVolumeFilesystem {
		reckoning += fmt.Sprintf(" and the file system of the volume takes %g %% more", overhead*100)
	}
	return resource.Quantity{}, fmt.Sprintf("%s: %s is too small: %s, which makes %s; set at least %s or leave it out",
		field, wanted, reckoning, quantity(need), quantity(need))
}

func roundUp(bytes int64) int64 { return (bytes + mebibyte - 1) / mebibyte * mebibyte }

func quantity(bytes int64) *resource.Quantity {
	return resource.NewQuantity(bytes, resource.BinarySI)
}

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
