// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package origin

import (
	"context"
	"fmt"
	"strconv"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

// Holders finds the machines that have a disk.
type Holders interface {
	Holders(ctx context.Context, namespace, disk string) ([]string, error)
}

// Observe looks up what the words name.
func Observe(ctx context.Context, reader client.Reader, holders Holders, words Words) (Facts, error) {
	switch {
	case words.Type == v1alpha2.DataSourceContainerImage && words.ContainerImage != nil && words.ContainerImage.Secret.Name != "":
		secret := &corev1.Secret{}
		found, err := shared.Get(ctx, reader, words.ContainerImage.Secret, secret)
		if err != nil || !found {
			return Facts{}, err
		}
		return Facts{Secret: secret}, nil
	case words.Type == v1alpha2.DataSourceObjectRef && words.Object != nil:
		referent, err := observeObject(ctx, reader, holders, *words.Object)
		return Facts{Referent: referent}, err
	}
	return Facts{}, nil
}

func observeObject(ctx context.Context, reader client.Reader, holders Holders, object Object) (*Referent, error) {
	key := client.ObjectKey{Namespace: object.Namespace, Name: object.Name}
	out := &Referent{}
	switch object.Kind {
	case v1alpha2.ClusterVirtualImageKind:
		image := &v1alpha2.ClusterVirtualImage{}
		found, err := shared.Get(ctx, reader, key, image)
		if err != nil || !found {
			return out, err
		}
		out.readImage(image, &image.Status.ImageStatus, string(image.Status.Phase))
		out.Reference = image.Status.Target.RegistryURL
		return out, nil
	case v1alpha2.VirtualImageKind:
		image := &v1alpha2.VirtualImage{}
		found, err := shared.Get(ctx, reader, key, image)
		if err != nil || !found {
			return out, err
		}
		out.readImage(image, &image.Status.ImageStatus, string(image.Status.Phase))
		out.Reference = image.Status.Target.RegistryURL
		return out, out.readClaim(ctx, reader, object.Namespace, image.Status.Target.PersistentVolumeClaimName)
	case v1alpha2.VirtualDiskKind:
		return out, observeDisk(ctx, reader, holders, key, out)
	}
	return nil, fmt.Errorf("spec.dataSource.objectRef.kind: %q is unknown", object.Kind)
}

func observeDisk(ctx context.Context, reader client.Reader, holders Holders, key client.ObjectKey, out *Referent) error {
	disk := &v1alpha2.VirtualDisk{}
	found, err := shared.Get(ctx, reader, key, disk)
	if err != nil || !found {
		return err
	}
	out.read(disk, disk.Status.Conditions, string(disk.Status.Phase))
	if out.Machines, err = holders.Holders(ctx, key.Namespace, key.Name); err != nil {
		return err
	}
	return out.readClaim(ctx, reader, key.Namespace, disk.Status.Target.PersistentVolumeClaimName)
}

func (r *Referent) readImage(image client.Object, status *v1alpha2.ImageStatus, phase string) {
	r.read(image, status.Conditions, phase)
	r.Format, r.CDROM = status.Format, status.CDROM
	// A size that cannot be read counts as not known.
	r.Bytes, _ = strconv.ParseInt(status.Size.UnpackedBytes, 10, 64)
}

func (r *Referent) read(object client.Object, conditions []metav1.Condition, phase string) {
	r.Found, r.UID, r.Phase = true, object.GetUID(), phase
	r.Deleting = object.GetDeletionTimestamp() != nil
	if ready := meta.FindStatusCondition(conditions, v1alpha2.ConditionReady); ready != nil {
		r.Ready, r.Message = ready.Status == metav1.ConditionTrue, ready.Message
	}
}

// readClaim looks at the volume of a referent that has one.
func (r *Referent) readClaim(ctx context.Context, reader client.Reader, namespace, name string) error {
	if name == "" {
		return nil
	}
	claim := &corev1.PersistentVolumeClaim{}
	found, err := shared.Get(ctx, reader, client.ObjectKey{Namespace: namespace, Name: name}, claim)
	if err != nil || !found {
		return err
	}
	r.Claim = &Claim{
		Name: name, StorageClass: ptr.Deref(claim.Spec.StorageClassName, ""),
		Block: ptr.Deref(claim.Spec.VolumeMode, corev1.PersistentVolumeFilesystem) == corev1.PersistentVolumeBlock,
	}
	if capacity, known := claim.Status.Capacity[corev1.ResourceStorage]; known && r.Bytes == 0 {
		r.Bytes = capacity.Value()
	}
	r.Claim.Tolerations, err = filling.Tolerations(ctx, reader, claim)
	return err
}
