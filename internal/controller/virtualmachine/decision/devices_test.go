// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// lists puts devices into the spec of the machine, the way they are observed.
func lists(devices ...Device) func(*Observed) {
	return func(o *Observed) {
		o.Devices, o.Machine.Spec.BlockDeviceRefs = devices, nil
		for _, device := range devices {
			o.Machine.Spec.BlockDeviceRefs = append(o.Machine.Spec.BlockDeviceRefs, device.Ref)
		}
	}
}

// attached asks for the disk data to be plugged in.
func attached(granted bool) func(*Observed) {
	return func(o *Observed) {
		attachment := &v1alpha2.VirtualMachineBlockDeviceAttachment{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data-attachment", UID: "1-2"}}
		attachment.Spec.BlockDeviceRef = v1alpha2.AttachmentBlockDeviceRef{Kind: "VirtualDisk", Name: "data"}
		if granted {
			attachment.Status.Conditions = []metav1.Condition{{Type: "BlockDeviceReady", Status: "True"}}
		}
		o.Attachments = append(o.Attachments, AttachedDevice{Attachment: attachment, Device: diskDevice("data", "Ready")})
	}
}

// pluggedIn gives the guest a volume as KubeVirt plugs it in.
func pluggedIn(name string) func(*Observed) {
	return func(o *Observed) {
		o.Guest.Spec.Volumes = append(o.Guest.Spec.Volumes, virtv1.Volume{Name: name, VolumeSource: virtv1.VolumeSource{
			PersistentVolumeClaim: &virtv1.PersistentVolumeClaimVolumeSource{Hotpluggable: true},
		}})
		o.Guest.Spec.Domain.Devices.Disks = append(o.Guest.Spec.Domain.Devices.Disks, virtv1.Disk{Name: name})
	}
}

// templateVolumes lists what the engine is shown, as "name" or "name plugged".
func templateVolumes(t *testing.T, o Observed) string {
	t.Helper()
	decided := Decide(o)
	if len(decided.Apply) != 1 {
		t.Fatalf("renders %d objects", len(decided.Apply))
	}
	var out []string
	for _, volume := range decided.Apply[0].Want.(*virtv1.VirtualMachine).Spec.Template.Spec.Volumes {
		text := volume.Name
		if kubevirt.IsPlugged(&volume) {
			text += " plugged"
		}
		out = append(out, text)
	}
	return strings.Join(out, ", ")
}

func TestWhatTheEngineIsGiven(t *testing.T) {
	root, data := diskDevice("root", "Ready"), diskDevice("data", "Ready")
	tests := []struct {
		name    string
		changes []func(*Observed)
		want    string
	}{
		{"before the first start", []func(*Observed){lists(root, data)}, "vd-root, vd-data"},
		{"added while running", []func(*Observed){running(t), lists(root, data)}, "vd-root, vd-data plugged"},
		{"added, not ready", []func(*Observed){running(t), lists(root, diskDevice("data", "Pending"))}, "vd-root"},
		{"without the driver", []func(*Observed){
			func(o *Observed) { o.Machine.Spec.EnableParavirtualization = ptr.To(false) }, running(t), lists(root, data),
		}, "vd-root, vd-data"},
		{"the guest has it, the disk is gone", []func(*Observed){running(t), lists(Device{Ref: root.Ref})}, "vd-root"},
		{"attached", []func(*Observed){running(t), attached(true)}, "vd-root, vd-data plugged"},
		{"attached at the start", []func(*Observed){attached(true)}, "vd-root, vd-data plugged"},
		{"attached, not looked at yet", []func(*Observed){running(t), attached(false)}, "vd-root"},
		{"attached, the disk is another's", []func(*Observed){
			running(t), attached(true), func(o *Observed) { o.Take("d8v-vd-data", "db") },
		}, "vd-root"},
		{"attached, not ready any more", []func(*Observed){running(t), attached(false), pluggedIn("vd-data")}, "vd-root, vd-data plugged"},
		{"being detached", []func(*Observed){running(t), attached(true), pluggedIn("vd-data"), func(o *Observed) {
			o.Attachments[0].Attachment.DeletionTimestamp = ptr.To(metav1.NewTime(now))
		}}, "vd-root"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := templateVolumes(t, observation(test.changes...)); got != test.want {
				t.Errorf("%s, want %s", got, test.want)
			}
		})
	}
}

func TestListsThatWaitForARestart(t *testing.T) {
	root, data := diskDevice("root", "Ready"), diskDevice("data", "Ready")
	first := diskDevice("data", "Ready")
	first.Ref.BootOrder = ptr.To[int32](1)
	tests := []struct {
		name    string
		changes []func(*Observed)
		waits   string
	}{
		{name: "added", changes: []func(*Observed){lists(root, data)}},
		{name: "added and taken out", changes: []func(*Observed){pluggedIn("vd-data"), lists(root)}},
		{name: "added in front", changes: []func(*Observed){lists(data, root)}, waits: "order of booting"},
		{name: "added with an order", changes: []func(*Observed){lists(root, first)}, waits: "order of booting"},
		{name: "taken out from what was there", changes: []func(*Observed){lists(data)}, waits: "VirtualDisk root was there when the guest started"},
		{
			name: "an image that the node hands over", waits: "VirtualImage tools cannot be plugged",
			changes: []func(*Observed){lists(root, Device{Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualImage", Name: "tools"}, Image: readyImage("raw")})},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observation(append([]func(*Observed){running(t)}, test.changes...)...)
			changes := changesOf(o)
			if (len(changes) > 0) != (test.waits != "") {
				t.Fatalf("changes %+v", changes)
			}
			if test.waits != "" && (changes[0].Path != "blockDeviceRefs" || !strings.Contains(changes[0].why, test.waits)) {
				t.Errorf("change %+v", changes[0])
			}
		})
	}
}
