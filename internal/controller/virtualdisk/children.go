// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualdisk

import (
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// buildClaim is the part of the finished claim that is ours: that the disk owns it.
// What filled it is its controller and there can be only one, so the disk is a plain
// owner; that is enough for the claim to outlive the one and go with the other.
func buildClaim(observed *corev1.PersistentVolumeClaim, disk *v1alpha2.VirtualDisk) *corev1.PersistentVolumeClaim {
	owner := shared.OwnerReference(v1alpha2.VirtualDiskKind, disk.Name, disk.UID)
	owner.Controller = ptr.To(false)
	return &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{
		Namespace: observed.Namespace,
		Name:      observed.Name,
		// The uid keeps a claim that is gone by now from being made anew out of this.
		UID:             observed.UID,
		OwnerReferences: []metav1.OwnerReference{owner},
	}}
}
