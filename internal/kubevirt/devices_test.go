// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// ordered is a device with a boot order; 0 means that it has none.
func ordered(name string, order int32) Device {
	device := Device{Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualDisk", Name: name}, PersistentVolumeClaim: "claim-of-" + name}
	if order != 0 {
		device.Ref.BootOrder = ptr.To(order)
	}
	return device
}

func TestBootOrders(t *testing.T) {
	tests := []struct {
		name    string
		devices []Device
		want    []uint
	}{
		{"by place", []Device{ordered("a", 0), ordered("b", 0), ordered("c", 0)}, []uint{1, 2, 3}},
		{"by number", []Device{ordered("a", 2), ordered("b", 1)}, []uint{2, 1}},
		{"one has a number, the others are not booted from", []Device{ordered("a", 0), ordered("b", 7), ordered("c", 0)}, []uint{0, 7, 0}},
		{"none", nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var got []uint
			for _, order := range bootOrders(test.devices) {
				got = append(got, ptr.Deref(order, 0))
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

// What a guest may do to a device: a disk is written to, an image never changes.
func TestDevicesOfEveryKind(t *testing.T) {
	volumeImage := Device{Ref: v1alpha2.BlockDeviceRef{Kind: "VirtualImage", Name: "tools"}, PersistentVolumeClaim: "d8v-vi-tools"}
	volumeISO := volumeImage
	volumeISO.CDROM = true
	tests := []struct {
		name             string
		device           Device
		paravirtualized  bool
		bus              virtv1.DiskBus
		cdrom, readOnly  bool
		claim, image     string
		claimIsProtected bool
		layered          bool
	}{
		{name: "disk", device: ordered("root", 0), paravirtualized: true, bus: "scsi", claim: "claim-of-root"},
		{name: "disk on SATA", device: ordered("root", 0), bus: "sata", claim: "claim-of-root"},
		{
			name: "image in the registry", device: imageDevice("VirtualImage", "tools", false), paravirtualized: true, bus: "scsi", readOnly: true,
			image: "dvcr.d8-virtualization.svc/virtualimage/tools:uid-of-image",
		},
		{
			name: "image in the registry on SATA", device: imageDevice("ClusterVirtualImage", "tools", false), bus: "sata",
			image: "dvcr.d8-virtualization.svc/clustervirtualimage/tools:uid-of-image",
		},
		{
			name: "ISO", device: imageDevice("ClusterVirtualImage", "debian", true), paravirtualized: true, bus: "sata", cdrom: true,
			image: "dvcr.d8-virtualization.svc/clustervirtualimage/debian:uid-of-image",
		},
		{
			name: "image on a volume", device: volumeImage, paravirtualized: true, bus: "scsi", readOnly: true,
			claim: "d8v-vi-tools", claimIsProtected: true,
		},
		{
			// SATA knows no read-only disks: what the guest writes is forgotten.
			name: "image on a volume on SATA", device: volumeImage, bus: "sata",
			claim: "d8v-vi-tools", claimIsProtected: true, layered: true,
		},
		{
			name: "ISO on a volume", device: volumeISO, bus: "sata", cdrom: true,
			claim: "d8v-vi-tools", claimIsProtected: true,
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			in := testInput()
			in.Machine.Spec.EnableParavirtualization = ptr.To(test.paravirtualized)
			in.Devices = []Device{test.device}
			disk, volume := disks(in)[0], volumes(in)[0]
			if disk.Name != volume.Name {
				t.Errorf("disk %s, volume %s", disk.Name, volume.Name)
			}
			if test.cdrom {
				if disk.CDRom == nil || disk.CDRom.Bus != test.bus || disk.Disk != nil {
					t.Errorf("disk %+v", disk.DiskDevice)
				}
			} else if disk.Disk == nil || disk.Disk.Bus != test.bus || disk.Disk.ReadOnly != test.readOnly {
				t.Errorf("disk %+v", disk.Disk)
			}
			switch {
			case test.image != "":
				if volume.ContainerDisk == nil || volume.ContainerDisk.Image != test.image || volume.ContainerDisk.ImagePullPolicy != "IfNotPresent" {
					t.Errorf("volume %+v", volume.VolumeSource)
				}
			case test.layered:
				if volume.Ephemeral == nil || volume.Ephemeral.PersistentVolumeClaim.ClaimName != test.claim ||
					!volume.Ephemeral.PersistentVolumeClaim.ReadOnly || volume.PersistentVolumeClaim != nil {
					t.Errorf("volume %+v", volume.VolumeSource)
				}
			case volume.PersistentVolumeClaim == nil || volume.PersistentVolumeClaim.ClaimName != test.claim ||
				volume.PersistentVolumeClaim.ReadOnly != test.claimIsProtected:
				t.Errorf("volume %+v", volume.VolumeSource)
			}
		})
	}
}

// A type without the member that belongs to it must not become a disk without a
// volume: KubeVirt would refuse the whole machine.
func TestIncompleteProvisioningIsNone(t *testing.T) {
	for name, provisioning := range map[string]*v1alpha2.Provisioning{
		"none": nil, "user data of nothing": {Type: "UserDataRef"}, "answers of nothing": {Type: "SysprepRef"},
	} {
		in := testInput()
		in.Machine.Spec.Provisioning = provisioning
		if got := disks(in); len(got) != 1 {
			t.Errorf("%s: disks %+v", name, got)
		}
		if got := volumes(in); len(got) != 1 {
			t.Errorf("%s: volumes %+v", name, got)
		}
	}
}

func TestEveryDiskHasItsVolume(t *testing.T) {
	for name, change := range renderCases {
		in := testInput()
		change(&in)
		rendered, err := Render(in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		var disks, volumes []string
		for _, disk := range rendered.Spec.Template.Spec.Domain.Devices.Disks {
			disks = append(disks, disk.Name)
		}
		for _, volume := range rendered.Spec.Template.Spec.Volumes {
			volumes = append(volumes, volume.Name)
		}
		if diff := cmp.Diff(disks, volumes); diff != "" {
			t.Errorf("%s: disks and volumes differ:\n%s", name, diff)
		}
		slices.Sort(disks)
		if len(slices.Compact(slices.Clone(disks))) != len(disks) {
			t.Errorf("%s: a name is used twice: %v", name, disks)
		}
	}
}

func TestReservedMetadata(t *testing.T) {
	for key, reserved := range map[string]bool{
		"app":                                             false,
		"team.example.org/owner":                          false,
		"mykubevirt.io/x":                                 false,
		"kubevirt.io":                                     false, // a name, no domain
		"kubevirt.io/created-by":                          true,
		"hooks.kubevirt.io/hookSidecars":                  true,
		"cni.cilium.io/ipAddress":                         true,
		"k8s.v1.cni.cncf.io/networks":                     true,
		"security.deckhouse.io/skip-pss-check":            true,
		"virtualization.deckhouse.io/x":                   true,
		"internal.virtualization.deckhouse.io/x":          true,
		"deckhouse.io/x":                                  false,
		"kubectl.kubernetes.io/restartedAt":               true,
		"kubernetes.io/x":                                 false,
		"cluster-autoscaler.kubernetes.io/safe-to-evict":  false,
		"virtualization.deckhouse.io.example.org/nothing": false,
	} {
		if got := isReserved(key); got != reserved {
			t.Errorf("%s: reserved %v, want %v", key, got, reserved)
		}
	}
}

// The user's own maps must stay as they are: they are those of the cache.
func TestRenderLeavesItsInputAlone(t *testing.T) {
	for name, change := range renderCases {
		in, same := testInput(), testInput()
		change(&in)
		change(&same)
		if _, err := Render(in); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if diff := cmp.Diff(same, in); diff != "" {
			t.Errorf("%s: the rendering changed its input:\n%s", name, diff)
		}
	}
}

// And what was rendered must not change when the input does.
func TestRenderSharesNothingWithItsInput(t *testing.T) {
	in := testInput()
	placementCase(&in)
	in.Machine.Labels = map[string]string{"app": "web"}
	rendered, err := Render(in)
	if err != nil {
		t.Fatal(err)
	}
	before := string(marshal(t, rendered))
	in.Machine.Labels["app"] = "db"
	in.Machine.Spec.NodeSelector["zone"] = "b"
	in.Machine.Spec.Tolerations[0].Key = "changed"
	in.Machine.Spec.Affinity.NodeAffinity.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms[0].MatchExpressions[0].Key = "changed"
	in.Class.Spec.NodeSelector.MatchExpressions[0].Values[0] = "changed"
	if diff := cmp.Diff(before, string(marshal(t, rendered))); diff != "" {
		t.Error(diff)
	}
}

func TestNodeSelectorOfTheClassWins(t *testing.T) {
	tests := []struct {
		name                 string
		machine, class, want map[string]string
	}{
		{"neither", nil, nil, nil},
		{"empty ones", map[string]string{}, map[string]string{}, nil},
		{"machine", map[string]string{"zone": "a"}, nil, map[string]string{"zone": "a"}},
		{"class", nil, map[string]string{"pool": "vm"}, map[string]string{"pool": "vm"}},
		{"both", map[string]string{"zone": "a", "pool": "mine"}, map[string]string{"pool": "vm"}, map[string]string{"zone": "a", "pool": "vm"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, nodeSelector(test.machine, test.class)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// A machine's node terms are alternatives: each must carry the class's word, or one
// of them would let the machine out of its class.
func TestClassNarrowsEveryAlternative(t *testing.T) {
	class := []corev1.NodeSelectorRequirement{{Key: "pool", Operator: "In", Values: []string{"vm"}}}
	term := func(keys ...string) corev1.NodeSelectorTerm {
		var out corev1.NodeSelectorTerm
		for _, key := range keys {
			out.MatchExpressions = append(out.MatchExpressions, corev1.NodeSelectorRequirement{Key: key, Operator: "In", Values: []string{"vm"}})
		}
		return out
	}
	required := func(terms ...corev1.NodeSelectorTerm) *v1alpha2.Affinity {
		return &v1alpha2.Affinity{NodeAffinity: &corev1.NodeAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: &corev1.NodeSelector{NodeSelectorTerms: terms},
		}}
	}
	preferred := &v1alpha2.Affinity{NodeAffinity: &corev1.NodeAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.PreferredSchedulingTerm{{Weight: 1, Preference: term("fast")}},
	}}
	tests := []struct {
		name    string
		machine *v1alpha2.Affinity
		want    []corev1.NodeSelectorTerm
	}{
		{"nothing of its own", nil, []corev1.NodeSelectorTerm{term("pool")}},
		{"two alternatives", required(term("a"), term("b")), []corev1.NodeSelectorTerm{term("a", "pool"), term("b", "pool")}},
		{"no term at all", required(), []corev1.NodeSelectorTerm{term("pool")}},
		{"a preference only", preferred, []corev1.NodeSelectorTerm{term("pool")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := affinity(test.machine, class).NodeAffinity
			if diff := cmp.Diff(test.want, got.RequiredDuringSchedulingIgnoredDuringExecution.NodeSelectorTerms); diff != "" {
				t.Error(diff)
			}
			if test.machine == preferred && len(got.PreferredDuringSchedulingIgnoredDuringExecution) != 1 {
				t.Error("the preference is gone")
			}
		})
	}
	if got := affinity(&v1alpha2.Affinity{}, nil); got != nil {
		t.Errorf("an empty affinity became %+v", got)
	}
}

func TestAffinityToMachines(t *testing.T) {
	near := v1alpha2.VirtualMachineAndPodAffinityTerm{
		LabelSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}, TopologyKey: "zone",
		Namespaces: []string{"data"}, NamespaceSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"a"}, MismatchLabelKeys: []string{"b"},
	}
	want := corev1.PodAffinityTerm{
		LabelSelector: near.LabelSelector, TopologyKey: "zone",
		Namespaces: []string{"data"}, NamespaceSelector: &metav1.LabelSelector{}, MatchLabelKeys: []string{"a"}, MismatchLabelKeys: []string{"b"},
	}
	weighted := []v1alpha2.WeightedVirtualMachineAndPodAffinityTerm{{Weight: 5, VirtualMachineAndPodAffinityTerm: near}}
	got := affinity(&v1alpha2.Affinity{
		VirtualMachineAndPodAffinity: &v1alpha2.VirtualMachineAndPodAffinity{
			RequiredDuringSchedulingIgnoredDuringExecution: []v1alpha2.VirtualMachineAndPodAffinityTerm{near},
		},
		VirtualMachineAndPodAntiAffinity: &v1alpha2.VirtualMachineAndPodAntiAffinity{PreferredDuringSchedulingIgnoredDuringExecution: weighted},
	}, nil)
	wanted := &corev1.Affinity{
		PodAffinity: &corev1.PodAffinity{RequiredDuringSchedulingIgnoredDuringExecution: []corev1.PodAffinityTerm{want}},
		PodAntiAffinity: &corev1.PodAntiAffinity{
			PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 5, PodAffinityTerm: want}},
		},
	}
	if diff := cmp.Diff(wanted, got); diff != "" {
		t.Error(diff)
	}
}

// Windows keeps time by Hyper-V's timers and brings its own drivers' expectations;
// other systems get a source of randomness instead.
func TestHardwareOfTheSystem(t *testing.T) {
	in := testInput()
	generic, err := domainSpec(in)
	if err != nil {
		t.Fatal(err)
	}
	if generic.Devices.Rng == nil || generic.Devices.TPM != nil || generic.Clock != nil || generic.Features != nil {
		t.Errorf("generic: %+v", generic)
	}
	in.Machine.Spec.OSType = v1alpha2.OSTypeWindows
	windows, err := domainSpec(in)
	if err != nil {
		t.Fatal(err)
	}
	if windows.Devices.TPM == nil || windows.Clock.UTC == nil || *windows.Clock.Timer.HPET.Enabled || *windows.Features.Hyperv.Spinlocks.Retries != 8191 {
		t.Errorf("windows: %+v", windows)
	}
	in.Machine.Spec.OSType, in.Machine.Spec.Bootloader = v1alpha2.OSTypeGeneric, v1alpha2.BootloaderEFIWithSecureBoot
	secure, err := domainSpec(in)
	if err != nil {
		t.Fatal(err)
	}
	if !*secure.Features.SMM.Enabled || !*secure.Firmware.Bootloader.EFI.SecureBoot {
		t.Errorf("secure boot: %+v, %+v", secure.Features, secure.Firmware)
	}
}

func TestMaskedSpecHidesAndLeavesAlone(t *testing.T) {
	spec := testInput().Machine.Spec
	spec.Provisioning = &v1alpha2.Provisioning{Type: "UserData", UserData: "password: secret"}
	masked := MaskedSpec(&spec)
	if got := masked.Provisioning.UserData; got != "sha256:090b62523f032b71f860d6c053d1378f6eb291f2d800e7f2d9e7005795ec3b60" {
		t.Errorf("masked as %q", got)
	}
	if spec.Provisioning.UserData != "password: secret" {
		t.Errorf("the spec itself was masked: %q", spec.Provisioning.UserData)
	}
	spec.Provisioning.UserData = ""
	if got := MaskedSpec(&spec).Provisioning.UserData; got != "" {
		t.Errorf("nothing was masked as %q", got)
	}
}

func TestWithEntriesNeedsPairs(t *testing.T) {
	defer func() {
		if got := recover(); got != "odd number of keys and values: 3" {
			t.Errorf("recovered %v", got)
		}
	}()
	withEntries(map[string]string{}, strings.Fields("a 1 b")...)
}
