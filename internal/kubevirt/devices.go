// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

const (
	cloudInitVolume = "cloudinit"
	sysprepVolume   = "sysprep"
)

// diskBus is the bus of disks: virtio-scsi for guests that have the driver, SATA
// for all others. CD-ROMs are always on SATA, which every guest can read.
func diskBus(spec *v1alpha2.VirtualMachineSpec) virtv1.DiskBus {
	if ptr.Deref(spec.EnableParavirtualization, true) {
		return virtv1.DiskBusSCSI
	}
	return virtv1.DiskBusSATA
}

func disks(in Input) []virtv1.Disk {
	bus := diskBus(&in.Machine.Spec)
	orders := bootOrders(in.Devices)
	var out []virtv1.Disk
	for i, device := range in.Devices {
		out = append(out, disk(device, bus, orders[i]))
	}
	switch provisioningType(&in.Machine.Spec) {
	case v1alpha2.ProvisioningUserData, v1alpha2.ProvisioningUserDataRef:
		out = append(out, virtv1.Disk{
			Name:       cloudInitVolume,
			DiskDevice: virtv1.DiskDevice{Disk: &virtv1.DiskTarget{Bus: bus}},
		})
	case v1alpha2.ProvisioningSysprepRef:
		out = append(out, virtv1.Disk{Name: sysprepVolume, DiskDevice: cdrom()})
	}
	// Last, so that the others keep their places when one comes or goes.
	for _, device := range in.Attached {
		out = append(out, pluggedDisk(device, nil))
	}
	return out
}

func disk(device Device, bus virtv1.DiskBus, order *uint) virtv1.Disk {
	switch {
	case device.Kept != nil:
		return *device.Kept.Disk.DeepCopy()
	case device.Plugged:
		return pluggedDisk(device, order)
	}
	return virtv1.Disk{
		Name:       VolumeName(device.Ref.Kind, device.Ref.Name),
		Serial:     Serial(device.UID),
		BootOrder:  order,
		DiskDevice: diskDevice(device, bus),
		// The guest is told of an error and decides, as on real hardware;
		// KubeVirt's default would freeze the machine.
		ErrorPolicy: ptr.To(virtv1.DiskErrorPolicyReport),
	}
}

func diskDevice(device Device, bus virtv1.DiskBus) virtv1.DiskDevice {
	if device.CDROM {
		return cdrom()
	}
	target := &virtv1.DiskTarget{Bus: bus}
	// A SATA disk cannot be read-only. An image on SATA takes writes, and forgets
	// them when the machine stops.
	target.ReadOnly = device.Ref.Kind != v1alpha2.BlockDeviceVirtualDisk && bus != virtv1.DiskBusSATA
	return virtv1.DiskDevice{Disk: target}
}

func cdrom() virtv1.DiskDevice {
	return virtv1.DiskDevice{CDRom: &virtv1.CDRomTarget{Bus: virtv1.DiskBusSATA}}
}

// bootOrders numbers the devices by their place in the list. As soon as one of
// them has a boot order of its own, only those that have one are booted from.
func bootOrders(devices []Device) []*uint {
	out := make([]*uint, len(devices))
	var explicit bool
	for i, device := range devices {
		if order := device.Ref.BootOrder; order != nil {
			out[i], explicit = ptr.To(uint(*order)), true
		}
	}
	for i := range out {
		if !explicit {
			out[i] = ptr.To(uint(i + 1))
		}
	}
	return out
}

func volumes(in Input) []virtv1.Volume {
	bus := diskBus(&in.Machine.Spec)
	var out []virtv1.Volume
	for _, device := range in.Devices {
		out = append(out, volume(device, bus))
	}
	provisioning := in.Machine.Spec.Provisioning
	switch provisioningType(&in.Machine.Spec) {
	case v1alpha2.ProvisioningUserData:
		out = append(out, virtv1.Volume{Name: cloudInitVolume, VolumeSource: virtv1.VolumeSource{
			CloudInitNoCloud: &virtv1.CloudInitNoCloudSource{UserData: provisioning.UserData},
		}})
	case v1alpha2.ProvisioningUserDataRef:
		out = append(out, virtv1.Volume{Name: cloudInitVolume, VolumeSource: virtv1.VolumeSource{
			CloudInitNoCloud: &virtv1.CloudInitNoCloudSource{UserDataSecretRef: &corev1.LocalObjectReference{Name: provisioning.UserDataRef.Name}},
		}})
	case v1alpha2.ProvisioningSysprepRef:
		out = append(out, virtv1.Volume{Name: sysprepVolume, VolumeSource: virtv1.VolumeSource{
			Sysprep: &virtv1.SysprepSource{Secret: &corev1.LocalObjectReference{Name: provisioning.SysprepRef.Name}},
		}})
	}
	for _, device := range in.Attached {
		out = append(out, pluggedVolume(device))
	}
	return out
}

func volume(device Device, bus virtv1.DiskBus) virtv1.Volume {
	switch {
	case device.Kept != nil:
		return *device.Kept.Volume.DeepCopy()
	case device.Plugged:
		return pluggedVolume(device)
	}
	return virtv1.Volume{Name: VolumeName(device.Ref.Kind, device.Ref.Name), VolumeSource: volumeSource(device, bus)}
}

func volumeSource(device Device, bus virtv1.DiskBus) virtv1.VolumeSource {
	if device.PersistentVolumeClaim != "" {
		isImage := device.Ref.Kind != v1alpha2.BlockDeviceVirtualDisk
		claim := corev1.PersistentVolumeClaimVolumeSource{ClaimName: device.PersistentVolumeClaim, ReadOnly: isImage}
		if isImage && !device.CDROM && bus == virtv1.DiskBusSATA {
			// The device takes writes (see diskDevice), which must not reach the image:
			// they go to a layer above it that ends with the guest.
			return virtv1.VolumeSource{Ephemeral: &virtv1.EphemeralVolumeSource{PersistentVolumeClaim: &claim}}
		}
		return virtv1.VolumeSource{PersistentVolumeClaim: &virtv1.PersistentVolumeClaimVolumeSource{
			PersistentVolumeClaimVolumeSource: claim,
		}}
	}
	return virtv1.VolumeSource{ContainerDisk: &virtv1.ContainerDiskSource{
		Image: device.Image,
		// The reference ends with the image's uid, so that what it names never
		// changes.
		ImagePullPolicy: corev1.PullIfNotPresent,
	}}
}

// provisioningType is empty for a machine without provisioning, and for one whose
// provisioning lacks the member that belongs to its type.
func provisioningType(spec *v1alpha2.VirtualMachineSpec) v1alpha2.ProvisioningType {
	provisioning := spec.Provisioning
	switch {
	case provisioning == nil,
		provisioning.Type == v1alpha2.ProvisioningUserDataRef && provisioning.UserDataRef == nil,
		provisioning.Type == v1alpha2.ProvisioningSysprepRef && provisioning.SysprepRef == nil:
		return ""
	}
	return provisioning.Type
}
