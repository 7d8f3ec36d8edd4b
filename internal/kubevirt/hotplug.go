// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// CanPlug tells whether a device can be given to a running guest. KubeVirt plugs
// volumes in as disks of the paravirtualized SCSI bus, and cannot plug in images
// that the node hands over itself, nor CD-ROMs.
func CanPlug(spec *v1alpha2.VirtualMachineSpec, device Device) bool {
	return diskBus(spec) == virtv1.DiskBusSCSI && device.PersistentVolumeClaim != "" && !device.CDROM
}

// IsPlugged tells whether a volume was, or is to be, plugged into a running guest;
// only such a volume can be unplugged from it.
func IsPlugged(volume *virtv1.Volume) bool {
	return volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.Hotpluggable
}

// pluggedDisk is how the guest sees a device that is plugged in. An image on an ISO
// becomes a read-only disk as well: CD-ROMs cannot be plugged in.
func pluggedDisk(device Device, order *uint) virtv1.Disk {
	return virtv1.Disk{
		Name:      VolumeName(device.Ref.Kind, device.Ref.Name),
		Serial:    Serial(device.UID),
		BootOrder: order,
		DiskDevice: virtv1.DiskDevice{Disk: &virtv1.DiskTarget{
			Bus: virtv1.DiskBusSCSI, ReadOnly: device.Ref.Kind != v1alpha2.BlockDeviceVirtualDisk,
		}},
		ErrorPolicy: ptr.To(virtv1.DiskErrorPolicyReport),
	}
}

func pluggedVolume(device Device) virtv1.Volume {
	return virtv1.Volume{
		Name: VolumeName(device.Ref.Kind, device.Ref.Name),
		VolumeSource: virtv1.VolumeSource{PersistentVolumeClaim: &virtv1.PersistentVolumeClaimVolumeSource{
			PersistentVolumeClaimVolumeSource: corev1.PersistentVolumeClaimVolumeSource{
				ClaimName: device.PersistentVolumeClaim, ReadOnly: device.Ref.Kind != v1alpha2.BlockDeviceVirtualDisk,
			},
			Hotpluggable: true,
		}},
	}
}
