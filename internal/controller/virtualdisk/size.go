// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

const fieldSize = "spec.persistentVolumeClaim.size"

// content is what is known of the size of a disk's content, in bytes.
type content struct {
	// Disk is the size of the guest's disk, 0 if it is not known.
	Disk int64
	// Volume is the size of the volume that is copied, 0 if none is.
	Volume int64
	// Upload tells that the size is known only when it is too late.
	Upload bool
}

// chooseSize is the size of the claim, or the arithmetic of why there is none.
func chooseSize(wanted *resource.Quantity, c content, volume corev1.PersistentVolumeMode, overhead float64) (resource.Quantity, string) {
	need := max(filling.ClaimSize(c.Disk, volume, overhead), filling.RoundUp(c.Volume))
	switch {
	case wanted == nil && c.Upload:
		return resource.Quantity{}, fieldSize + ": the size of an upload is known only when it is over; set it, for example to 10Gi"
	case wanted == nil && need == 0:
		return resource.Quantity{}, fieldSize + ": a blank disk needs it; set it, for example to 10Gi"
	case wanted == nil:
		return *filling.Bytes(need), ""
	case wanted.Sign() <= 0:
		return resource.Quantity{}, fmt.Sprintf("%s: %s is not positive; raise it", fieldSize, wanted)
	}
	have := filling.RoundUp(wanted.Value())
	if have >= need {
		return *filling.Bytes(have), ""
	}
	return resource.Quantity{}, fmt.Sprintf("%s: %s is too small: %s, which makes %s; set at least %s or leave it out",
		fieldSize, wanted, reckoning(c, volume, overhead), filling.Bytes(need), filling.Bytes(need))
}

// reckoning says where the needed size comes from.
func reckoning(c content, volume corev1.PersistentVolumeMode, overhead float64) string {
	if filling.RoundUp(c.Volume) > filling.ClaimSize(c.Disk, volume, overhead) {
		return fmt.Sprintf("the volume of the image has %s and is copied as a whole", filling.Bytes(filling.RoundUp(c.Volume)))
	}
	text := fmt.Sprintf("the image unpacks to %s", filling.Bytes(filling.RoundUp(c.Disk)))
	if volume == corev1.PersistentVolumeFilesystem {
		text += fmt.Sprintf(" and the file system of the volume takes %g %% more", overhead*100)
	}
	return text
}
