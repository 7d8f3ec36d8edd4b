// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
)

// removeOrphans deletes what was made for disks that are gone: a disk may be let go
// before the cache shows what was begun for it, and somebody may have taken its
// finalizer away.
func (r *Reconciler) removeOrphans(ctx context.Context, key types.NamespacedName) error {
	disk := &v1alpha2.VirtualDisk{}
	if _, err := shared.Get(ctx, r.Client, key, disk); err != nil {
		return err
	}
	orphans, err := r.orphans(ctx, key, disk.UID)
	if err != nil || len(orphans) == 0 {
		return err
	}
	// The cache of disks may be behind that of claims and pods, which would cost a
	// disk all that was written so far.
	if _, err := shared.Get(ctx, r.live, key, disk); err != nil {
		return err
	}
	if orphans, err = r.orphans(ctx, key, disk.UID); err != nil {
		return err
	}
	// Only the deletions are carried out: there is no disk to write anything to.
	_, err = shared.Execute(ctx, r.Executor, &v1alpha2.VirtualDisk{}, plan{Delete: orphans})
	return err
}

// orphans are those of all disks that had the name, but for the one with the uid.
func (r *Reconciler) orphans(ctx context.Context, key types.NamespacedName, uid types.UID) ([]client.Object, error) {
	claims, pods := &corev1.PersistentVolumeClaimList{}, &corev1.PodList{}
	for _, list := range []client.ObjectList{claims, pods} {
		if err := r.Client.List(ctx, list, client.MatchingFields{indexMadeFor: key.String()}); err != nil {
			return nil, fmt.Errorf("listing what was made for disks that are gone: %w", err)
		}
	}
	var out []client.Object
	for i := range claims.Items {
		if owner, known := filling.OwnerOf(&claims.Items[i]); known && owner.UID != uid {
			out = append(out, shared.Reference(&claims.Items[i], &corev1.PersistentVolumeClaim{}))
		}
	}
	for i := range pods.Items {
		if owner, known := importerpod.Owner(&pods.Items[i]); known && owner.UID != string(uid) {
			secret := metav1.ObjectMeta{Namespace: pods.Items[i].Namespace, Name: pods.Items[i].Name}
			out = append(out, &corev1.Secret{ObjectMeta: secret}, shared.Reference(&pods.Items[i], &corev1.Pod{}))
		}
	}
	return out, nil
}

// madeFor is the disk that an unfilled claim or an inspector was made for.
func madeFor(object client.Object) []string {
	if owner, known := filling.OwnerOf(object); known && owner.Kind == v1alpha2.VirtualDiskKind {
		return []string{client.ObjectKey{Namespace: owner.Namespace, Name: owner.Name}.String()}
	}
	if owner, known := importerpod.Owner(object); known && owner.Kind == v1alpha2.VirtualDiskKind {
		return []string{client.ObjectKey{Namespace: owner.Namespace, Name: owner.Name}.String()}
	}
	return nil
}
