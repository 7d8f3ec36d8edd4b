// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package attachment decides which attachments of a machine take effect. The machine
// is rendered by it and the attachments' statuses tell of it, so both ask here.
//
// A machine has each device once: what its spec names comes first, then the
// attachments in the order of their age. An attachment that is being deleted keeps
// its device, and its place, until the guest has let go.
package attachment

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// Limit is how many block devices a machine has at most, those of its spec and of
// its attachments together.
const Limit = 16

// ClaimPrefix begins the names of claims that hold an attachment's own copy of an
// image.
const ClaimPrefix = "d8v-vmbda-"

// ClaimName is the claim that holds the attachment's own copy of an image.
func ClaimName(uid types.UID) string { return ClaimPrefix + string(uid) }

// Verdict is what becomes of one attachment.
type Verdict struct {
	Attachment *v1alpha2.VirtualMachineBlockDeviceAttachment
	// Accepted tells that the machine is to have the device by this attachment, or
	// has it still, if the attachment is being deleted.
	Accepted bool
	// Reason and Message tell why not.
	Reason  v1alpha2.ConditionReason
	Message string
}

// device identifies what can be attached.
type device struct {
	kind v1alpha2.BlockDeviceKind
	name string
}

// Judge looks at all attachments of a machine, oldest first. The attachments may
// belong to a cache; the verdicts point to them.
func Judge(machine *v1alpha2.VirtualMachine, attachments []v1alpha2.VirtualMachineBlockDeviceAttachment) []Verdict {
	listed, taken := map[device]bool{}, map[device]*v1alpha2.VirtualMachineBlockDeviceAttachment{}
	for _, ref := range machine.Spec.BlockDeviceRefs {
		listed[device{ref.Kind, ref.Name}] = true
	}
	count := len(machine.Spec.BlockDeviceRefs)
	var out []Verdict
	for _, attachment := range byAge(attachments) {
		verdict := Verdict{Attachment: attachment}
		wanted := device{attachment.Spec.BlockDeviceRef.Kind, attachment.Spec.BlockDeviceRef.Name}
		older := taken[wanted]
		switch {
		case listed[wanted]:
			verdict.Reason = v1alpha2.ReasonConflict
			verdict.Message = fmt.Sprintf("spec.blockDeviceRefs of VirtualMachine %s/%s names %s %s already: delete the attachment, or take the device out of the machine's spec.",
				machine.Namespace, machine.Name, wanted.kind, wanted.name)
		case older != nil:
			verdict.Reason, verdict.Message = v1alpha2.ReasonConflict, conflict(wanted, older)
		case count >= Limit:
			verdict.Reason = v1alpha2.ReasonCapacityReached
			verdict.Message = fmt.Sprintf("VirtualMachine %s/%s has %d block devices, and more are not possible: remove one from its spec, or delete another attachment.",
				machine.Namespace, machine.Name, Limit)
		default:
			verdict.Accepted = true
			taken[wanted] = attachment
			count++
		}
		out = append(out, verdict)
	}
	return out
}

func conflict(wanted device, older *v1alpha2.VirtualMachineBlockDeviceAttachment) string {
	if older.DeletionTimestamp != nil {
		return fmt.Sprintf("VirtualMachineBlockDeviceAttachment %s is unplugging %s %s: this one follows when that is done.",
			older.Name, wanted.kind, wanted.name)
	}
	return fmt.Sprintf("VirtualMachineBlockDeviceAttachment %s, which is older, attaches %s %s to the machine: delete one of the two.",
		older.Name, wanted.kind, wanted.name)
}

// byAge sorts copies of the pointers, the oldest first. Names settle what was made
// in the same second.
func byAge(attachments []v1alpha2.VirtualMachineBlockDeviceAttachment) []*v1alpha2.VirtualMachineBlockDeviceAttachment {
	out := make([]*v1alpha2.VirtualMachineBlockDeviceAttachment, 0, len(attachments))
	for i := range attachments {
		out = append(out, &attachments[i])
	}
	slices.SortFunc(out, func(a, b *v1alpha2.VirtualMachineBlockDeviceAttachment) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), strings.Compare(a.Name, b.Name))
	})
	return out
}

// Find gives the verdict on one attachment. One that the list does not hold yet is
// not accepted.
func Find(verdicts []Verdict, uid types.UID) Verdict {
	for _, verdict := range verdicts {
		if verdict.Attachment.UID == uid {
			return verdict
		}
	}
	return Verdict{Reason: v1alpha2.ReasonNotAttached}
}

// IsGranted tells that the attachment's own controller has found the device fit to
// be plugged in.
func IsGranted(attachment *v1alpha2.VirtualMachineBlockDeviceAttachment) bool {
	return attachment.DeletionTimestamp == nil &&
		meta.IsStatusConditionTrue(attachment.Status.Conditions, v1alpha2.ConditionBlockDeviceReady)
}

// VolumeName is the engine's name for the attachment's device.
func VolumeName(attachment *v1alpha2.VirtualMachineBlockDeviceAttachment) string {
	return kubevirt.VolumeName(attachment.Spec.BlockDeviceRef.Kind, attachment.Spec.BlockDeviceRef.Name)
}

// GuestHolds tells whether a guest that has not ended has the volume, or had it and
// has not let go of it yet: the engine keeps a volume's status until the volume has
// left the guest and the node.
func GuestHolds(guest *virtv1.VirtualMachineInstance, volume string) bool {
	if guest == nil || guest.IsFinal() {
		return false
	}
	return slices.ContainsFunc(guest.Spec.Volumes, func(v virtv1.Volume) bool { return v.Name == volume }) ||
		StatusOf(guest, volume) != nil
}

// StatusOf is what the engine says about a volume of the guest, or nil.
func StatusOf(guest *virtv1.VirtualMachineInstance, volume string) *virtv1.VolumeStatus {
	for i := range guest.Status.VolumeStatus {
		if guest.Status.VolumeStatus[i].Name == volume {
			return &guest.Status.VolumeStatus[i]
		}
	}
	return nil
}
