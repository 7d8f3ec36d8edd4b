// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"fmt"
	"slices"

	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared/attachment"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// AttachedDevice is an attachment that takes effect, with the object of its device.
type AttachedDevice struct {
	Attachment *v1alpha2.VirtualMachineBlockDeviceAttachment
	Device     Device
}

// place says how a device of the spec is rendered beside a running guest. The guest
// keeps what it was started with; what it does not have is plugged in if the engine
// can do that, and waits for the next start otherwise.
func (o Observed) place(device kubevirt.Device) kubevirt.Device {
	if !o.GuestActive() {
		return device
	}
	volume := o.guestVolume(kubevirt.VolumeName(device.Ref.Kind, device.Ref.Name))
	if volume == nil {
		device.Plugged = kubevirt.CanPlug(&o.Machine.Spec, device) && !o.isApart(device.PersistentVolumeClaim)
	} else {
		device.Plugged = kubevirt.IsPlugged(volume)
	}
	return device
}

// keep is how a running guest has a device that cannot be resolved any more; nil if
// it does not have it.
func (o Observed) keep(ref v1alpha2.BlockDeviceRef) *kubevirt.Device {
	if !o.GuestActive() {
		return nil
	}
	name := kubevirt.VolumeName(ref.Kind, ref.Name)
	volume := o.guestVolume(name)
	if volume == nil {
		return nil
	}
	for i := range o.Guest.Spec.Domain.Devices.Disks {
		if disk := &o.Guest.Spec.Domain.Devices.Disks[i]; disk.Name == name {
			return &kubevirt.Device{Ref: ref, Kept: &kubevirt.KeptDevice{Disk: *disk.DeepCopy(), Volume: *volume.DeepCopy()}}
		}
	}
	return nil
}

func (o Observed) guestVolume(name string) *virtv1.Volume {
	for i := range o.Guest.Spec.Volumes {
		if o.Guest.Spec.Volumes[i].Name == name {
			return &o.Guest.Spec.Volumes[i]
		}
	}
	return nil
}

// attachedDevices are the devices of attachments as the rendering takes them. What a
// guest has stays until its attachment is deleted, whatever becomes of the device:
// only the user takes a device out of a guest.
func (o Observed) attachedDevices() []kubevirt.Device {
	var out []kubevirt.Device
	for _, attached := range o.Attachments {
		ref := RefOf(attached.Attachment)
		held := o.GuestActive() && o.guestVolume(kubevirt.VolumeName(ref.Kind, ref.Name)) != nil
		switch device := resolve(attached); {
		case attached.Attachment.DeletionTimestamp != nil:
		case device.PersistentVolumeClaim != "" && (held || attachment.IsGranted(attached.Attachment) && o.takenBy(device) == ""):
			out = append(out, device)
		case held:
			if kept := o.keep(ref); kept != nil {
				out = append(out, *kept)
			}
		}
	}
	return out
}

// RefOf is the device that an attachment names.
func RefOf(in *v1alpha2.VirtualMachineBlockDeviceAttachment) v1alpha2.BlockDeviceRef {
	return v1alpha2.BlockDeviceRef{Kind: in.Spec.BlockDeviceRef.Kind, Name: in.Spec.BlockDeviceRef.Name}
}

// resolve finds the claim of an attachment's device. An image that the registry
// keeps is on a claim of the attachment's own.
func resolve(attached AttachedDevice) kubevirt.Device {
	out := kubevirt.Device{Ref: RefOf(attached.Attachment)}
	switch device := attached.Device; {
	case device.Disk != nil:
		out.UID, out.PersistentVolumeClaim = device.Disk.UID, device.Disk.Status.Target.PersistentVolumeClaimName
	case device.Image != nil:
		out.UID, out.PersistentVolumeClaim = device.Image.UID, device.Image.Status.Target.PersistentVolumeClaimName
	case device.ClusterImage != nil:
		out.UID = device.ClusterImage.UID
	default:
		return out
	}
	if out.PersistentVolumeClaim == "" && attached.Device.Disk == nil {
		out.PersistentVolumeClaim = attachment.ClaimName(attached.Attachment.UID)
	}
	return out
}

// guestRefs is what spec.blockDeviceRefs must be compared to while the guest runs:
// what it was started with and cannot lose, followed by what it has got, or is being
// given, since. Orders of booting take effect at a start, so what is plugged in has
// none.
func (o Observed) guestRefs(started []v1alpha2.BlockDeviceRef) []v1alpha2.BlockDeviceRef {
	wanted := o.Machine.Spec.BlockDeviceRefs
	var has []v1alpha2.BlockDeviceRef
	for _, ref := range started {
		if indexOf(wanted, ref) >= 0 || !o.unplugs(ref) {
			has = append(has, ref)
		}
	}
	for _, ref := range wanted {
		if indexOf(has, ref) < 0 && o.plugs(ref) {
			ref.BootOrder = nil
			has = append(has, ref)
		}
	}
	return has
}

// whyDevicesWait tells why a changed list of block devices has to wait for a restart,
// given that it differs from guestRefs.
func whyDevicesWait(o Observed) string {
	started := kubevirt.DecodeSpec(o.Guest.Annotations)
	for _, ref := range started.BlockDeviceRefs {
		if indexOf(o.Machine.Spec.BlockDeviceRefs, ref) < 0 && !o.unplugs(ref) {
			return fmt.Sprintf("%s %s was there when the guest started, which keeps it until it ends", ref.Kind, ref.Name)
		}
	}
	for _, ref := range o.Machine.Spec.BlockDeviceRefs {
		if indexOf(started.BlockDeviceRefs, ref) < 0 && !o.plugs(ref) {
			if o.isApart(o.claimOf(ref)) {
				return fmt.Sprintf("the volume of %s %s cannot be reached from node %s, where the guest runs; moving the machine may help as well",
					ref.Kind, ref.Name, o.Guest.Status.NodeName)
			}
			return fmt.Sprintf("%s %s cannot be plugged into a running guest: an attachment can do that with an image, "+
				"and only guests with enableParavirtualization take devices", ref.Kind, ref.Name)
		}
	}
	return "the order of booting is settled when a guest starts"
}

func indexOf(refs []v1alpha2.BlockDeviceRef, wanted v1alpha2.BlockDeviceRef) int {
	return slices.IndexFunc(refs, func(ref v1alpha2.BlockDeviceRef) bool { return ref.Kind == wanted.Kind && ref.Name == wanted.Name })
}

// unplugs tells that the guest does not have a device that its spec no longer names,
// or is about to lose it without a restart.
func (o Observed) unplugs(ref v1alpha2.BlockDeviceRef) bool {
	volume := o.guestVolume(kubevirt.VolumeName(ref.Kind, ref.Name))
	return volume == nil || kubevirt.IsPlugged(volume)
}

// plugs tells that the guest has a device that it was not started with, or gets it
// without a restart. One that is not ready counts as such: nothing but the device is
// being waited for.
func (o Observed) plugs(ref v1alpha2.BlockDeviceRef) bool {
	if volume := o.guestVolume(kubevirt.VolumeName(ref.Kind, ref.Name)); volume != nil {
		return kubevirt.IsPlugged(volume)
	}
	i := slices.IndexFunc(o.Devices, func(d Device) bool { return d.Ref.Kind == ref.Kind && d.Ref.Name == ref.Name })
	if i < 0 {
		return false
	}
	device, _, _ := judgeDevice(o, i, o.Devices[i])
	if ref.Kind == v1alpha2.BlockDeviceVirtualDisk && device.PersistentVolumeClaim == "" {
		device.PersistentVolumeClaim = "to be made"
	}
	return kubevirt.CanPlug(&o.Machine.Spec, device) && !o.isApart(device.PersistentVolumeClaim)
}

// claimOf is the claim of a disk that the spec names; empty for everything else.
func (o Observed) claimOf(ref v1alpha2.BlockDeviceRef) string {
	for _, device := range o.Devices {
		if device.Disk != nil && device.Ref.Kind == ref.Kind && device.Ref.Name == ref.Name {
			return device.Disk.Status.Target.PersistentVolumeClaimName
		}
	}
	return ""
}

// blockDevices lists the machine's devices with what the guest makes of them: those
// of the spec, those of attachments, and those that the guest still has although
// nothing names them any more. The last must be seen: nobody may take away what a
// guest uses.
func blockDevices(o Observed, phase v1alpha2.MachinePhase) []v1alpha2.BlockDeviceStatusRef {
	shown := showsGuest(phase, o)
	var out []v1alpha2.BlockDeviceStatusRef
	for _, device := range o.Devices {
		out = append(out, withGuest(o, shown, v1alpha2.BlockDeviceStatusRef{
			Kind: device.Ref.Kind, Name: device.Ref.Name, Size: deviceSize(device), BootOrder: device.Ref.BootOrder,
		}))
	}
	for _, attached := range o.Attachments {
		ref := RefOf(attached.Attachment)
		held := shown && attachment.GuestHolds(o.Guest, kubevirt.VolumeName(ref.Kind, ref.Name))
		if !held && !attachment.IsGranted(attached.Attachment) {
			continue
		}
		out = append(out, withGuest(o, shown, v1alpha2.BlockDeviceStatusRef{
			Kind: ref.Kind, Name: ref.Name, Size: deviceSize(attached.Device), Hotplugged: true,
			VirtualMachineBlockDeviceAttachmentName: attached.Attachment.Name,
		}))
	}
	if shown {
		out = append(out, leftovers(o, out)...)
	}
	return out
}

// leftovers are the devices that were shown, or that the guest was started with, and
// that the guest has not let go of.
func leftovers(o Observed, listed []v1alpha2.BlockDeviceStatusRef) []v1alpha2.BlockDeviceStatusRef {
	candidates := slices.Clone(o.Machine.Status.BlockDeviceRefs)
	if started := kubevirt.DecodeSpec(o.Guest.Annotations); started != nil {
		for _, ref := range started.BlockDeviceRefs {
			candidates = append(candidates, v1alpha2.BlockDeviceStatusRef{Kind: ref.Kind, Name: ref.Name})
		}
	}
	var out []v1alpha2.BlockDeviceStatusRef
	for _, candidate := range candidates {
		same := func(ref v1alpha2.BlockDeviceStatusRef) bool {
			return ref.Kind == candidate.Kind && ref.Name == candidate.Name
		}
		if slices.ContainsFunc(listed, same) || slices.ContainsFunc(out, same) ||
			!attachment.GuestHolds(o.Guest, kubevirt.VolumeName(candidate.Kind, candidate.Name)) {
			continue
		}
		candidate.BootOrder = nil
		out = append(out, withGuest(o, true, candidate))
	}
	return out
}

// withGuest fills in what the guest knows of a device.
func withGuest(o Observed, shown bool, ref v1alpha2.BlockDeviceStatusRef) v1alpha2.BlockDeviceStatusRef {
	ref.Attached, ref.Target = false, ""
	if !shown {
		return ref
	}
	name := kubevirt.VolumeName(ref.Kind, ref.Name)
	if volume := o.guestVolume(name); volume != nil && kubevirt.IsPlugged(volume) {
		ref.Hotplugged = true
	}
	ref.Attached = attachment.GuestHolds(o.Guest, name)
	if status := attachment.StatusOf(o.Guest, name); status != nil {
		ref.Target = status.Target
	}
	return ref
}

func deviceSize(device Device) string {
	switch {
	case device.Disk != nil:
		return device.Disk.Status.Capacity
	case device.Image != nil:
		return device.Image.Status.Size.Unpacked
	case device.ClusterImage != nil:
		return device.ClusterImage.Status.Size.Unpacked
	}
	return ""
}
