// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"slices"
	"testing"

	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func TestCanPlug(t *testing.T) {
	iso := ordered("iso", 0)
	iso.CDROM = true
	tests := []struct {
		name            string
		device          Device
		paravirtualized bool
		want            bool
	}{
		{"disk", ordered("data", 0), true, true},
		{"disk of a guest without the driver", ordered("data", 0), false, false},
		{"image that the node hands over", imageDevice("VirtualImage", "tools", false), true, false},
		{"CD-ROM", iso, true, false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			spec := &v1alpha2.VirtualMachineSpec{EnableParavirtualization: ptr.To(test.paravirtualized)}
			if got := CanPlug(spec, test.device); got != test.want {
				t.Errorf("%v", got)
			}
		})
	}
}

// However a guest is made, what is plugged into it is a SCSI disk, and an image never
// takes writes.
func TestPluggedDevices(t *testing.T) {
	in := testInput()
	in.Machine.Spec.EnableParavirtualization = ptr.To(false)
	in.Machine.Spec.Provisioning = &v1alpha2.Provisioning{Type: "UserData", UserData: "#cloud-config"}
	fromList := ordered("data", 2)
	fromList.Plugged = true
	in.Devices = []Device{ordered("root", 1), fromList}
	in.Attached = []Device{{Ref: v1alpha2.BlockDeviceRef{Kind: "ClusterVirtualImage", Name: "tools"}, UID: "uid-of-tools", PersistentVolumeClaim: "copy", CDROM: true}}

	gotDisks, gotVolumes := disks(in), volumes(in)
	var names []string
	for i, volume := range gotVolumes {
		names = append(names, volume.Name)
		if gotDisks[i].Name != volume.Name {
			t.Errorf("disk %s, volume %s", gotDisks[i].Name, volume.Name)
		}
	}
	// Attachments come last: the others must not change places when one comes.
	if !slices.Equal(names, []string{"vd-root", "vd-data", "cloudinit", "cvi-tools"}) {
		t.Fatalf("volumes %v", names)
	}
	data, tools := gotDisks[1], gotDisks[3]
	if data.Disk == nil || data.Disk.Bus != virtv1.DiskBusSCSI || data.Disk.ReadOnly || ptr.Deref(data.BootOrder, 0) != 2 {
		t.Errorf("disk of the list %+v", data)
	}
	if tools.Disk == nil || tools.Disk.Bus != virtv1.DiskBusSCSI || !tools.Disk.ReadOnly || tools.BootOrder != nil || tools.Serial == "" {
		t.Errorf("attached image %+v", tools)
	}
	for i, readOnly := range map[int]bool{1: false, 3: true} {
		if claim := gotVolumes[i].PersistentVolumeClaim; claim == nil || !claim.Hotpluggable || claim.ReadOnly != readOnly || !IsPlugged(&gotVolumes[i]) {
			t.Errorf("volume %+v", gotVolumes[i])
		}
	}
	if IsPlugged(&gotVolumes[0]) || IsPlugged(&gotVolumes[2]) {
		t.Error("what a guest is started with counts as plugged")
	}
}

// A device that cannot be resolved any more stays as the guest has it.
func TestKeptDevices(t *testing.T) {
	kept := &KeptDevice{
		Disk:   virtv1.Disk{Name: "vd-root", Serial: "as it was"},
		Volume: virtv1.Volume{Name: "vd-root", VolumeSource: virtv1.VolumeSource{ContainerDisk: &virtv1.ContainerDiskSource{Image: "as it was"}}},
	}
	in := testInput()
	in.Devices = []Device{{Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: "root"}, Kept: kept}}
	if got := disks(in)[0]; got.Serial != "as it was" {
		t.Errorf("disk %+v", got)
	}
	if got := volumes(in)[0]; got.ContainerDisk == nil || got.ContainerDisk.Image != "as it was" {
		t.Errorf("volume %+v", got)
	}
}
