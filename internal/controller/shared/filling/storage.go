// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package filling

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/utils/ptr"
	cdiv1 "kubevirt.io/containerized-data-importer-api/pkg/apis/core/v1beta1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

const (
	// DefaultOverhead is the share of a file system that is kept free for the file
	// system itself when CDI's configuration says nothing.
	DefaultOverhead = 0.06
	// configName is the name of CDI's only configuration object.
	configName = "config"
	// annotationDefaultClass marks the cluster's default storage class.
	annotationDefaultClass = "storageclass.kubernetes.io/is-default-class"
)

// Classes are the module's settings about the storage classes of one kind.
type Classes struct {
	// Default is for volumes that name no class; empty takes the cluster's.
	Default string
	// Allowed lists the classes that may be used; empty allows all.
	Allowed []string
}

// Storage is what is known of the storage class of a volume.
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

// ObserveStorage looks up the storage class of a volume. Named is what the owner's
// spec says; claim is the volume's if there is one, and nil before.
func ObserveStorage(ctx context.Context, reader client.Reader, named *string, settings Classes, claim *corev1.PersistentVolumeClaim) (Storage, error) {
	classes := &storagev1.StorageClassList{}
	if err := reader.List(ctx, classes); err != nil {
		return Storage{}, fmt.Errorf("listing the storage classes: %w", err)
	}
	out := Storage{Allowed: settings.Allowed, Overhead: DefaultOverhead}
	out.Name = chooseClass(ptr.Deref(named, ""), settings.Default, classes.Items)
	out.Class = findClass(classes.Items, out.Name)
	if claim != nil && claim.Spec.StorageClassName != nil {
		out.ClaimClass = findClass(classes.Items, *claim.Spec.StorageClassName)
	}
	if claim != nil || out.Class == nil {
		return out, nil
	}
	profile := &cdiv1.StorageProfile{}
	if found, err := shared.Get(ctx, reader, client.ObjectKey{Name: out.Name}, profile); err != nil {
		return out, err
	} else if found {
		out.Profile = profile
	}
	var err error
	out.Overhead, err = Overhead(ctx, reader, out.Name)
	return out, err
}

// Overhead reads from CDI's configuration what share of a file system of the class
// is kept free.
func Overhead(ctx context.Context, reader client.Reader, class string) (float64, error) {
	config := &cdiv1.CDIConfig{}
	found, err := shared.Get(ctx, reader, client.ObjectKey{Name: configName}, config)
	if err != nil || !found {
		return DefaultOverhead, err
	}
	return overheadOf(config, class), nil
}

// Check says what is wrong with the choice of the class; field is where the owner's
// spec names it. An empty reason means that nothing is.
func (s Storage) Check(field, things string) (reason v1alpha2.ConditionReason, message string) {
	switch {
	case s.Name == "":
		return v1alpha2.ReasonStorageClassNotFound,
			field + ": it is not set, and neither the module nor the cluster has a default; set it"
	case len(s.Allowed) > 0 && !slices.Contains(s.Allowed, s.Name):
		return v1alpha2.ReasonStorageClassNotAllowed, fmt.Sprintf("%s: the module's settings do not allow %s for %s; use one of %s",
			field, s.Name, things, strings.Join(s.Allowed, ", "))
	case s.Class == nil || s.Class.DeletionTimestamp != nil:
		return v1alpha2.ReasonStorageClassNotFound,
			fmt.Sprintf("%s: there is no storage class %s; make it or name another one", field, s.Name)
	}
	return "", ""
}

// chooseClass is the storage class of a new volume: the user's, the module's default,
// the cluster's default.
func chooseClass(named, moduleDefault string, classes []storagev1.StorageClass) string {
	if name := firstOf(named, moduleDefault); name != "" {
		return name
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
		return DefaultOverhead
	}
	text := overhead.Global
	if own, ok := overhead.StorageClass[class]; ok {
		text = own
	}
	value, err := strconv.ParseFloat(string(text), 64)
	if err != nil || value < 0 || value >= 1 {
		return DefaultOverhead
	}
	return value
}
