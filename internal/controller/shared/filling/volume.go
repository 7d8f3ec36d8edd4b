// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

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
	// million is what shares of a file system are counted in, so that sizes are
	// reckoned in whole numbers and back again without a loss.
	million = 1_000_000
	// bindingImmediate is the only value of the binding-mode annotation.
	bindingImmediate = "Immediate"
)

// Modes say how a volume is used.
type Modes struct {
	Volume corev1.PersistentVolumeMode
	Access corev1.PersistentVolumeAccessMode
	// Immediate tells that the volume does not wait for its first consumer.
	Immediate bool
}

// ChooseModes takes each mode from the most specific place that names one: the
// owner's annotations, its storage class, CDI's knowledge of the storage, the safe
// default.
func ChooseModes(owner map[string]string, class *storagev1.StorageClass, profile *cdiv1.StorageProfile) Modes {
	fromProfile := bestProfile(profile)
	volume := firstOf(owner[v1alpha2.AnnotationVolumeMode], class.Annotations[v1alpha2.AnnotationVolumeMode])
	access := firstOf(owner[v1alpha2.AnnotationAccessMode], class.Annotations[v1alpha2.AnnotationAccessMode])
	binding := firstOf(owner[v1alpha2.AnnotationBindingMode], class.Annotations[v1alpha2.AnnotationBindingMode])
	return Modes{
		Volume:    corev1.PersistentVolumeMode(firstOf(volume, string(fromProfile.Volume))),
		Access:    corev1.PersistentVolumeAccessMode(firstOf(access, string(fromProfile.Access))),
		Immediate: binding == bindingImmediate,
	}
}

// BindsImmediately tells whether a claim is not to wait for its first consumer,
// whatever its storage class says.
func BindsImmediately(claim *corev1.PersistentVolumeClaim) bool {
	return claim.Annotations[v1alpha2.AnnotationBindingMode] == bindingImmediate
}

// CheckModes names the annotation that holds a word nobody knows.
func CheckModes(modes Modes) string {
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

// ClaimSize is the size of the claim that holds a guest's disk of the given size.
func ClaimSize(content int64, volume corev1.PersistentVolumeMode, overhead float64) int64 {
	mebibytes := RoundUp(content) / mebibyte
	if volume == corev1.PersistentVolumeFilesystem {
		share := million + shareOf(overhead)
		mebibytes = (mebibytes*share + million - 1) / million
	}
	return mebibytes * mebibyte
}

// GuestSize is the size of the largest guest's disk that a claim holds. It is the
// opposite of ClaimSize, and never less than what that was given.
func GuestSize(claim int64, volume corev1.PersistentVolumeMode, overhead float64) int64 {
	if volume != corev1.PersistentVolumeFilesystem {
		return claim
	}
	return claim / mebibyte * million / (million + shareOf(overhead)) * mebibyte
}

func shareOf(overhead float64) int64 { return int64(math.Round(overhead * million)) }

// RoundUp makes whole mebibytes: storages do not make volumes of odd sizes.
func RoundUp(bytes int64) int64 { return (bytes + mebibyte - 1) / mebibyte * mebibyte }

// Bytes is a quantity in binary units.
func Bytes(bytes int64) *resource.Quantity { return resource.NewQuantity(bytes, resource.BinarySI) }

func firstOf(values ...string) string {
	for _, value := range values {
		if value != "" {
			return value
		}
	}
	return ""
}
