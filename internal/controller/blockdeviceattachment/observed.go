// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package blockdeviceattachment

import (
	"time"

	corev1 "k8s.io/api/core/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/controller/shared/filling"
)

// Observed is what the decision about an attachment sees. A nil pointer means that
// there is no such object.
type Observed struct {
	Attachment *v1alpha2.VirtualMachineBlockDeviceAttachment
	Machine    *v1alpha2.VirtualMachine
	// Verdict is what becomes of the attachment among the machine's others.
	Verdict attachment.Verdict
	// Engine and Guest are KubeVirt's objects of the machine.
	Engine *virtv1.VirtualMachine
	Guest  *virtv1.VirtualMachineInstance
	// One of these is the device.
	Disk         *v1alpha2.VirtualDisk
	Image        *v1alpha2.VirtualImage
	ClusterImage *v1alpha2.ClusterVirtualImage
	// Copy is the claim with the attachment's own copy of an image.
	Copy *corev1.PersistentVolumeClaim
	// Claim is the one that is plugged in, and Volume what it is bound to.
	Claim  *corev1.PersistentVolumeClaim
	Volume *corev1.PersistentVolume
	// Node is the one that the guest runs on.
	Node *corev1.Node
	// Storage is what a copy is made on; it is only looked up when one is needed.
	Storage filling.Storage
	// Refusal is set when the copy was refused a moment ago.
	Refusal *shared.Refusal
	Now     time.Time
}

// imageStatus is what the image says about itself, or nil if the device is none.
func (o Observed) imageStatus() *v1alpha2.ImageStatus {
	switch {
	case o.Image != nil:
		return &o.Image.Status.ImageStatus
	case o.ClusterImage != nil:
		return &o.ClusterImage.Status.ImageStatus
	}
	return nil
}

func (o Observed) imagePhase() v1alpha2.ImagePhase {
	switch {
	case o.Image != nil:
		return o.Image.Status.Phase
	case o.ClusterImage != nil:
		return o.ClusterImage.Status.Phase
	}
	return ""
}

// imageClaim is the claim that the image itself is kept on; empty for one in the
// registry.
func (o Observed) imageClaim() string {
	if o.Image == nil {
		return ""
	}
	return o.Image.Status.Target.PersistentVolumeClaimName
}

// needsCopy tells that the device is an image in the registry.
func (o Observed) needsCopy() bool { return o.imageStatus() != nil && o.imageClaim() == "" }

// claimName is the claim that is plugged in; empty as long as there is none.
func (o Observed) claimName() string {
	switch {
	case o.Disk != nil:
		return o.Disk.Status.Target.PersistentVolumeClaimName
	case o.needsCopy():
		return attachment.ClaimName(o.Attachment.UID)
	}
	return o.imageClaim()
}

// guestRuns tells that there is a guest that devices can be plugged into.
func (o Observed) guestRuns() bool {
	return o.Guest != nil && o.Guest.Status.Phase == virtv1.Running && o.Guest.DeletionTimestamp == nil
}

// holds tells that the guest has the device by this attachment, or is about to get
// it, or has not let go of it yet.
func (o Observed) holds() bool {
	if !o.Verdict.Accepted {
		return false
	}
	volume := attachment.VolumeName(o.Attachment)
	if attachment.GuestHolds(o.Guest, volume) {
		return true
	}
	if o.Guest == nil || o.Guest.IsFinal() || o.Engine == nil || o.Engine.Spec.Template == nil {
		return false
	}
	// The engine was told to plug it in, and may be doing it at this moment.
	for i := range o.Engine.Spec.Template.Spec.Volumes {
		if o.Engine.Spec.Template.Spec.Volumes[i].Name == volume {
			return true
		}
	}
	return false
}
