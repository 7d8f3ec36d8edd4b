// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/placement"
)

// observeVolumes finds out how the volumes that only some nodes reach, such as those on
// a node's own disks, bind the running guest. They take nodes off OtherNodes.
func (r *reconciler) observeVolumes(ctx context.Context, o *Observed, nodes []corev1.Node) error {
	if !o.guestActive() {
		return nil
	}
	held := claimsOf(o.Guest)
	wanted := slices.Concat(held, o.diskClaims())
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
			o.bind(claim, reached)
		} else if !slices.Contains(reached, o.Guest.Status.NodeName) {
			o.Apart = append(o.Apart, claim)
		}
	}
	return nil
}

// bind leaves only those of the other nodes that reach the volume of a claim.
func (o *Observed) bind(claim string, reached []string) {
	left := slices.DeleteFunc(slices.Clone(o.OtherNodes), func(node string) bool { return !slices.Contains(reached, node) })
	if len(left) < len(o.OtherNodes) {
		o.OtherNodes, o.Tied = left, append(o.Tied, claim)
	}
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

// isApart tells that the running guest's node does not reach a device's volume, so that
// it cannot be plugged in there.
func (o Observed) isApart(claim string) bool { return slices.Contains(o.Apart, claim) }

// whyTied says which disks keep the guest on its node; empty when none do.
func whyTied(o Observed) string {
	if len(o.Tied) == 0 {
		return ""
	}
	return fmt.Sprintf("no other node that would take it reaches the volume of %s.", strings.Join(o.namesOf(o.Tied), ", "))
}

// namesOf calls claims by what people know them as.
func (o Observed) namesOf(claims []string) []string {
	names := map[string]string{}
	add := func(ref v1alpha2.BlockDeviceRef, claim string) {
		names[claim] = string(ref.Kind) + " " + ref.Name
	}
	for _, device := range o.Devices {
		switch {
		case device.Disk != nil:
			add(device.Ref, device.Disk.Status.Target.PersistentVolumeClaimName)
		case device.Image != nil:
			add(device.Ref, device.Image.Status.Target.PersistentVolumeClaimName)
		}
	}
	for _, attached := range o.Attachments {
		add(refOf(attached.Attachment), resolve(attached).PersistentVolumeClaim)
	}
	var out []string
	for _, claim := range claims {
		name, known := names[claim]
		if !known {
			name = "PersistentVolumeClaim " + claim
		}
		out = append(out, name)
	}
	return out
}
