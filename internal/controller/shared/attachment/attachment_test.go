// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package attachment

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var created = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func machine(devices int) *v1alpha2.VirtualMachine {
	out := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"}}
	for i := range devices {
		out.Spec.BlockDeviceRefs = append(out.Spec.BlockDeviceRefs, v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: fmt.Sprintf("disk-%d", i)})
	}
	return out
}

// made is an attachment of a disk, so many seconds old.
func made(name, disk string, age time.Duration) v1alpha2.VirtualMachineBlockDeviceAttachment {
	return v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "team", Name: name, UID: types.UID("uid-of-" + name), CreationTimestamp: metav1.NewTime(created.Add(-age)),
		},
		Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
			VirtualMachineName: "web", BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: "VirtualDisk", Name: disk},
		},
	}
}

func leaving(in v1alpha2.VirtualMachineBlockDeviceAttachment) v1alpha2.VirtualMachineBlockDeviceAttachment {
	at := metav1.NewTime(created)
	in.DeletionTimestamp = &at
	return in
}

func TestJudge(t *testing.T) {
	type attachments = []v1alpha2.VirtualMachineBlockDeviceAttachment
	tests := []struct {
		name        string
		devices     int
		attachments attachments
		// want is what becomes of each, oldest first, as "name" or "name: reason".
		want    string
		message string
	}{
		{name: "none"},
		{name: "one", devices: 1, attachments: attachments{made("a", "data", 0)}, want: "a"},
		{
			name: "the machine has it already", devices: 1, attachments: attachments{made("a", "disk-0", 0)},
			want: "a: Conflict", message: "spec.blockDeviceRefs of VirtualMachine team/web names VirtualDisk disk-0 already",
		},
		{
			name: "the older one wins", attachments: attachments{made("a", "data", 0), made("b", "data", time.Minute)},
			want: "b, a: Conflict", message: "VirtualMachineBlockDeviceAttachment b, which is older",
		},
		{
			name: "made in one second", attachments: attachments{made("b", "data", 0), made("a", "data", 0)},
			want: "a, b: Conflict", message: "VirtualMachineBlockDeviceAttachment a",
		},
		{
			name: "the older one is leaving", attachments: attachments{made("a", "data", 0), leaving(made("b", "data", time.Minute))},
			want: "b, a: Conflict", message: "is unplugging VirtualDisk data",
		},
		{
			name: "another device", attachments: attachments{made("a", "data", 0), made("b", "logs", time.Minute)},
			want: "b, a",
		},
		{
			name: "the last place", devices: 15, attachments: attachments{made("a", "data", time.Minute), made("b", "logs", 0)},
			want: "a, b: CapacityReached", message: "has 16 block devices",
		},
		{
			name: "one that is leaving keeps its place", devices: 15, attachments: attachments{leaving(made("a", "data", time.Minute)), made("b", "logs", 0)},
			want: "a, b: CapacityReached", message: "remove one",
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			var messages string
			for _, verdict := range Judge(machine(test.devices), test.attachments) {
				text := verdict.Attachment.Name
				if !verdict.Accepted {
					text += ": " + verdict.Reason
				}
				got, messages = append(got, text), messages+verdict.Message
			}
			if strings.Join(got, ", ") != test.want || !strings.Contains(messages, test.message) {
				t.Errorf("%q %s", got, messages)
			}
		})
	}
}

func TestFind(t *testing.T) {
	verdicts := Judge(machine(0), []v1alpha2.VirtualMachineBlockDeviceAttachment{made("a", "data", 0)})
	if !Find(verdicts, "uid-of-a").Accepted {
		t.Error("does not find it")
	}
	// One that the cache does not list yet is not known to be accepted.
	if got := Find(verdicts, "uid-of-b"); got.Accepted || got.Reason != "NotAttached" {
		t.Errorf("%+v", got)
	}
}

func TestIsGranted(t *testing.T) {
	granted := made("a", "data", 0)
	if IsGranted(&granted) {
		t.Error("before anybody looked at the device")
	}
	granted.Status.Conditions = []metav1.Condition{{Type: "BlockDeviceReady", Status: "True"}}
	if !IsGranted(&granted) {
		t.Error("the device is ready")
	}
	gone := leaving(granted)
	if IsGranted(&gone) {
		t.Error("while it is being deleted")
	}
}

func TestGuestHolds(t *testing.T) {
	attachment := made("a", "data", 0)
	name := VolumeName(&attachment)
	guest := func(phase virtv1.VirtualMachineInstancePhase, volumes, statuses []string) *virtv1.VirtualMachineInstance {
		out := &virtv1.VirtualMachineInstance{Status: virtv1.VirtualMachineInstanceStatus{Phase: phase}}
		for _, volume := range volumes {
			out.Spec.Volumes = append(out.Spec.Volumes, virtv1.Volume{Name: volume})
		}
		for _, status := range statuses {
			out.Status.VolumeStatus = append(out.Status.VolumeStatus, virtv1.VolumeStatus{Name: status})
		}
		return out
	}
	tests := []struct {
		name  string
		guest *virtv1.VirtualMachineInstance
		want  bool
	}{
		{"no guest", nil, false},
		{"another device", guest("Running", []string{"vd-root"}, []string{"vd-root"}), false},
		{"is being plugged in", guest("Running", []string{"vd-data"}, nil), true},
		{"has it", guest("Running", []string{"vd-data"}, []string{"vd-data"}), true},
		{"has not let go", guest("Running", nil, []string{"vd-data"}), true},
		{"has ended", guest("Succeeded", []string{"vd-data"}, []string{"vd-data"}), false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if got := GuestHolds(test.guest, name); got != test.want {
				t.Errorf("%v", got)
			}
		})
	}
	if ClaimName("1-2") != "d8v-vmbda-1-2" {
		t.Error("the name of the claim changed: those that exist would be lost")
	}
}

func TestJudgeDisk(t *testing.T) {
	tests := []struct {
		name           string
		change         func(*v1alpha2.VirtualDiskStatus)
		taken          bool
		problem, waits string
	}{
		{name: "ready", change: func(s *v1alpha2.VirtualDiskStatus) { s.Phase = "Ready" }},
		{name: "growing", change: func(s *v1alpha2.VirtualDiskStatus) { s.Phase = "Resizing" }},
		{name: "new", change: func(*v1alpha2.VirtualDiskStatus) {}, problem: "VirtualDisk team/data is not ready (new)"},
		{
			name: "of another machine", problem: "is attached to VirtualMachine team/db: stop that machine",
			change: func(s *v1alpha2.VirtualDiskStatus) {
				s.Phase, s.AttachedToVirtualMachines = "Ready", []v1alpha2.AttachedVirtualMachine{{Name: "db", Mounted: true}}
			},
		},
		{
			name: "another machine names it",
			change: func(s *v1alpha2.VirtualDiskStatus) {
				s.Phase, s.AttachedToVirtualMachines = "Ready", []v1alpha2.AttachedVirtualMachine{{Name: "db"}, {Name: "web", Mounted: true}}
			},
		},
		{
			name: "being copied", problem: "is being copied into an image",
			change: func(s *v1alpha2.VirtualDiskStatus) {
				s.Phase, s.Conditions = "Ready", []metav1.Condition{{Type: "InUse", Status: "True", Reason: "UsedForImageCreation"}}
			},
		},
		{
			name: "waits for the node", waits: "is made when the machine's node is known",
			change: func(s *v1alpha2.VirtualDiskStatus) {
				s.Phase, s.Target.PersistentVolumeClaimName = "WaitForFirstConsumer", "claim"
			},
		},
		{
			name: "being made for another reason", problem: "is not ready (Provisioning)",
			change: func(s *v1alpha2.VirtualDiskStatus) {
				s.Phase, s.Target.PersistentVolumeClaimName = "Provisioning", "claim"
			},
		},
		{
			name: "being made on the guest's node", taken: true, waits: "is being filled on the machine's node",
			change: func(s *v1alpha2.VirtualDiskStatus) {
				s.Phase, s.Target.PersistentVolumeClaimName = "Provisioning", "claim"
			},
		},
		{name: "being deleted", change: func(s *v1alpha2.VirtualDiskStatus) { s.Phase = "Terminating" }, problem: "is not ready (Terminating)"},
		{name: "being deleted under a guest", taken: true, change: func(s *v1alpha2.VirtualDiskStatus) { s.Phase = "Terminating" }},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			disk := &v1alpha2.VirtualDisk{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "data"}}
			test.change(&disk.Status)
			problem, waits := JudgeDisk(disk, "web", test.taken)
			if !strings.Contains(problem, test.problem) || (problem == "") != (test.problem == "") ||
				!strings.Contains(waits, test.waits) || (waits == "") != (test.waits == "") {
				t.Errorf("problem %q, waits %q", problem, waits)
			}
		})
	}
}
