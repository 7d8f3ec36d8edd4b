// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"slices"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/placement"
	"github.com/deckhouse/virtualization/internal/controller/virtualmachine/decision"
)

// observeVolumes finds out how the volumes that only some nodes reach, such as those on
// a node's own disks, bind the running guest. They take nodes off OtherNodes.
func (r *reconciler) observeVolumes(ctx context.Context, o *decision.Observed, nodes []corev1.Node) error {
	if !o.GuestActive() {
		return nil
	}
	held := claimsOf(o.Guest)
	wanted := slices.Concat(held, o.DiskClaims())
	slices.Sort(wanted)
	for _, claim := range slices.Compact(wanted) {
		volume, err := r.volumeOf(ctx, client.ObjectKey{Namespace: o.Machine.Namespace, Name: claim})
		if err != nil {
			return err
		}
		if volume == nil || placement.IsEverywhere(volume) {
			continue
		}
		reached := reachedFrom(volume, nodes)
		if slices.Contains(held, claim) {
			o.Bind(claim, reached)
		} else if !slices.Contains(reached, o.Guest.Status.NodeName) {
			o.Apart = append(o.Apart, claim)
		}
	}
	return nil
}

// volumeOf is what a claim is bound to; nil while it is not.
func (r *reconciler) volumeOf(ctx context.Context, key client.ObjectKey) (*corev1.PersistentVolume, error) {
	claim, err := shared.Find(ctx, r.Client, key, &corev1.PersistentVolumeClaim{})
	if err != nil || claim == nil || claim.Spec.VolumeName == "" {
		return nil, err
	}
	return shared.Find(ctx, r.Client, client.ObjectKey{Name: claim.Spec.VolumeName}, &corev1.PersistentVolume{})
}

// claimsOf are the claims that a guest has, those that it only reads included.
func claimsOf(guest *virtv1.VirtualMachineInstance) []string {
	var out []string
	for _, volume := range guest.Spec.Volumes {
		if volume.PersistentVolumeClaim != nil {
			out = append(out, volume.PersistentVolumeClaim.ClaimName)
		}
	}
	return out
}

func reachedFrom(volume *corev1.PersistentVolume, nodes []corev1.Node) []string {
	var out []string
	for i := range nodes {
		if placement.Reaches(volume, &nodes[i]) {
			out = append(out, nodes[i].Name)
		}
	}
	return out
}
