// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package engine

import (
	"context"
	"slices"

	virtv1 "kubevirt.io/api/core/v1"
)

// attachmentPod is the pod that brings volumes to a guest's node.
const attachmentPod = "hp-volume"

// plug does what KubeVirt's declarative hotplug does to a running guest: it takes
// over hotpluggable volumes that come and go in the machine's template, and moves
// each through its phases. It tells whether there was something to do.
func (e *Engine) plug(ctx context.Context, machine *virtv1.VirtualMachine, guest *virtv1.VirtualMachineInstance) (bool, error) {
	if guest.Status.Phase != virtv1.Running || machine.Spec.Template == nil {
		return false, nil
	}
	if takeOver(&machine.Spec.Template.Spec, guest) {
		return true, e.client.Update(ctx, guest)
	}
	if e.movePlugs(guest) {
		return true, e.client.Status().Update(ctx, guest)
	}
	return false, nil
}

func isPlugged(volume virtv1.Volume) bool {
	return volume.PersistentVolumeClaim != nil && volume.PersistentVolumeClaim.Hotpluggable
}

func volumeNamed(volumes []virtv1.Volume, name string) int {
	return slices.IndexFunc(volumes, func(v virtv1.Volume) bool { return v.Name == name })
}

func statusNamed(statuses []virtv1.VolumeStatus, name string) int {
	return slices.IndexFunc(statuses, func(s virtv1.VolumeStatus) bool { return s.Name == name })
}

func diskNamed(disks []virtv1.Disk, name string) int {
	return slices.IndexFunc(disks, func(d virtv1.Disk) bool { return d.Name == name })
}

// takeOver changes the guest's spec. A volume that is still on its way out is not
// added again before it has left.
func takeOver(template *virtv1.VirtualMachineInstanceSpec, guest *virtv1.VirtualMachineInstance) bool {
	spec := &guest.Spec
	before := len(spec.Volumes)
	gone := func(name string) bool { return volumeNamed(template.Volumes, name) < 0 }
	spec.Domain.Devices.Disks = slices.DeleteFunc(spec.Domain.Devices.Disks, func(disk virtv1.Disk) bool {
		at := volumeNamed(spec.Volumes, disk.Name)
		return at >= 0 && isPlugged(spec.Volumes[at]) && gone(disk.Name)
	})
	spec.Volumes = slices.DeleteFunc(spec.Volumes, func(v virtv1.Volume) bool { return isPlugged(v) && gone(v.Name) })
	changed := len(spec.Volumes) != before
	for _, volume := range template.Volumes {
		if !isPlugged(volume) || volumeNamed(spec.Volumes, volume.Name) >= 0 || statusNamed(guest.Status.VolumeStatus, volume.Name) >= 0 {
			continue
		}
		spec.Volumes = append(spec.Volumes, volume)
		if at := diskNamed(template.Domain.Devices.Disks, volume.Name); at >= 0 {
			spec.Domain.Devices.Disks = append(spec.Domain.Devices.Disks, template.Domain.Devices.Disks[at])
		}
		changed = true
	}
	return changed
}

// movePlugs takes each plugged volume one phase further.
func (e *Engine) movePlugs(guest *virtv1.VirtualMachineInstance) bool {
	changed := false
	var out []virtv1.VolumeStatus
	for i, status := range guest.Status.VolumeStatus {
		wanted := volumeNamed(guest.Spec.Volumes, status.Name) >= 0
		switch {
		case status.HotplugVolume == nil || (wanted && status.Phase == virtv1.VolumeReady):
		case wanted:
			status.Phase, status.Target, changed = virtv1.VolumeReady, "sd"+string(rune('a'+i)), true
		case e.isClutched(status.Name):
		case status.Phase != virtv1.HotplugVolumeDetaching:
			status.Phase, changed = virtv1.HotplugVolumeDetaching, true
		default:
			changed = true
			continue
		}
		out = append(out, status)
	}
	for _, volume := range guest.Spec.Volumes {
		if isPlugged(volume) && statusNamed(out, volume.Name) < 0 {
			out = append(out, virtv1.VolumeStatus{
				Name: volume.Name, Phase: virtv1.HotplugVolumeAttachedToNode, HotplugVolume: &virtv1.HotplugVolumeStatus{AttachPodName: attachmentPod},
			})
			changed = true
		}
	}
	guest.Status.VolumeStatus = out
	return changed
}

// Clutch makes guests refuse to let go of a volume, as they do while they have it
// mounted, until it is called with false.
func (e *Engine) Clutch(volume string, clutched bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.clutched == nil {
		e.clutched = map[string]bool{}
	}
	e.clutched[volume] = clutched
}

func (e *Engine) isClutched(volume string) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.clutched[volume]
}
