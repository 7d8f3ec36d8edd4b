// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// configName is the name of CDI's only configuration object.
const configName = "config"

func (r *Reconciler) observeStorage(ctx context.Context, disk *v1alpha2.VirtualDisk, claim *corev1.PersistentVolumeClaim) (Storage, error) {
	classes := &storagev1.StorageClassList{}
	if err := r.Client.List(ctx, classes); err != nil {
		return Storage{}, fmt.Errorf("listing the storage classes: %w", err)
	}
	out := Storage{Allowed: r.AllowedStorageClasses, Overhead: defaultOverhead}
	out.Name = chooseClass(disk, r.DefaultStorageClass, classes.Items)
	out.Class = findClass(classes.Items, out.Name)
	if claim != nil && claim.Spec.StorageClassName != nil {
		out.ClaimClass = findClass(classes.Items, *claim.Spec.StorageClassName)
	}
	if claim != nil || out.Class == nil {
		return out, nil
	}
	profile, config := &cdiv1.StorageProfile{}, &cdiv1.CDIConfig{}
	if found, err := shared.Get(ctx, r.Client, client.ObjectKey{Name: out.Name}, profile); err != nil {
		return out, err
	} else if found {
		out.Profile = profile
	}
	if found, err := shared.Get(ctx, r.Client, client.ObjectKey{Name: configName}, config); err != nil {
		return out, err
	} else if found {
		out.Overhead = overheadOf(config, out.Name)
	}
	return out, nil
}

// chooseClass is the storage class of a new volume: the user's, the module's default,
// the cluster's default.
func chooseClass(disk *v1alpha2.VirtualDisk, moduleDefault string, classes []storagev1.StorageClass) string {
	if name := disk.Spec.PersistentVolumeClaim.StorageClassName; name != nil && *name != "" {
		return *name
	}
	if moduleDefault != "" {
		return moduleDefault
	}
	best := -1
	for i := range classes {
		if classes[i].Annotations[annotationDefaultClass] == "true" && (best < 0 || isPreferred(&classes[i], &classes[best])) {
			best = i
		}
	}
	if best < 0 {
		return ""
	}
	return classes[best].Name
}

// isPreferred chooses between two default classes as Kubernetes does: the newer, of
// equally old ones the first by name.
func isPreferred(a, b *storagev1.StorageClass) bool {
	if a.CreationTimestamp.Equal(&b.CreationTimestamp) {
		return a.Name < b.Name
	}
	return b.CreationTimestamp.Before(&a.CreationTimestamp)
}

func findClass(classes []storagev1.StorageClass, name string) *storagev1.StorageClass {
	for i := range classes {
		if classes[i].Name == name {
			return classes[i].DeepCopy()
		}
	}
	return nil
}

// overheadOf reads what CDI keeps free of a file system of the class.
func overheadOf(config *cdiv1.CDIConfig, class string) float64 {
	overhead := config.Status.FilesystemOverhead
	if overhead == nil {
		return defaultOverhead
	}
	text := overhead.Global
	if own, ok := overhead.StorageClass[class]; ok {
		text = own
	}
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil || value < 0 || value >= 1 {
		return defaultOverhead
	}
	return value
}
