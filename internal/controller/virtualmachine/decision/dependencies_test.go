// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package decision

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func imageRef(o *Observed, kind v1alpha2.BlockDeviceKind) *Device {
	o.Devices = []Device{{Ref: v1alpha2.BlockDeviceRef{Kind: kind, Name: "iso"}}}
	return &o.Devices[0]
}

func withSecret(provisioning v1alpha2.Provisioning, secret *Secret) func(*Observed) {
	return func(o *Observed) { o.Machine.Spec.Provisioning, o.Secret = &provisioning, secret }
}

func readyImage(format string) *v1alpha2.VirtualImage {
	return &v1alpha2.VirtualImage{Status: v1alpha2.VirtualImageStatus{Phase: "Ready", ImageStatus: v1alpha2.ImageStatus{Format: format}}}
}

func readyClusterImage(format string) *v1alpha2.ClusterVirtualImage {
	return &v1alpha2.ClusterVirtualImage{Status: v1alpha2.ClusterVirtualImageStatus{Phase: "Ready", ImageStatus: v1alpha2.ImageStatus{Format: format}}}
}

// Each way in which a dependency can be not ready: its reason, and a message that
// names the object, the field and the remedy.
func TestDependencyProblems(t *testing.T) {
	userData := v1alpha2.Provisioning{Type: "UserDataRef", UserDataRef: &v1alpha2.UserDataRef{Name: "init"}}
	sysprep := v1alpha2.Provisioning{Type: "SysprepRef", SysprepRef: &v1alpha2.SysprepRef{Name: "answers"}}
	tests := []struct {
		name                       string
		change                     func(*Observed)
		condition, reason, message string
		passes                     bool
	}{
		{"missing class", func(o *Observed) { o.Class = nil },
			"VirtualMachineClassReady", "VirtualMachineClassNotReady",
			"VirtualMachineClass generic not found: create it or correct spec.virtualMachineClassName.", false},
		{"class without nodes", func(o *Observed) {
			o.Class.Status = v1alpha2.VirtualMachineClassStatus{Phase: "Pending", Conditions: readyFalse("No node has the model Nehalem.")}
		}, "VirtualMachineClassReady", "VirtualMachineClassNotReady",
			"VirtualMachineClass generic is not ready: No node has the model Nehalem.", false},
		{"size that cannot be laid out", func(o *Observed) { o.Machine.Spec.CPU.Cores = 17 },
			"SizingPolicyMatched", "SizingPolicyNotMatched",
			"spec.cpu.cores is 17: it cannot be spread evenly over 2 sockets; use 16 or 18.", false},
		{"own claim not there", func(o *Observed) { o.Claim = nil },
			"VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotReady",
			"VirtualMachineIPAddress team/web-7d3d1557 is being created.", false},
		{"named claim missing", func(o *Observed) { o.Claim, o.Machine.Spec.VirtualMachineIPAddressName = nil, "fixed" },
			"VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotReady",
			"VirtualMachineIPAddress team/fixed not found: create it or correct spec.virtualMachineIPAddressName.", false},
		{"claim of another machine", func(o *Observed) {
			o.Claim, o.Machine.Spec.VirtualMachineIPAddressName = claim("fixed", "10.66.10.9", "db"), "fixed"
		}, "VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotAvailable",
			"VirtualMachineIPAddress team/fixed is used by VirtualMachine db: choose another one in spec.virtualMachineIPAddressName.", false},
		{"claim without an address", func(o *Observed) {
			o.Claim.Status = v1alpha2.VirtualMachineIPAddressStatus{Phase: "Pending", Conditions: readyFalse("Every address of 10.66.10.0/24 is taken.")}
		}, "VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotReady",
			"VirtualMachineIPAddress team/web-7d3d1557 is not ready: Every address of 10.66.10.0/24 is taken.", false},
		{"claim being deleted", func(o *Observed) { o.Claim.DeletionTimestamp = ptr.To(metav1.NewTime(now)) },
			"VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotReady",
			"VirtualMachineIPAddress team/web-7d3d1557 is being deleted.", false},
		{"pod with another address", func(o *Observed) { running(t)(o); o.Pods[0].Status.PodIP = "10.244.1.7" },
			"VirtualMachineIPAddressReady", "VirtualMachineIPAddressNotAssigned",
			"The guest's pod has the address 10.244.1.7 instead of 10.66.10.5: the cluster's network does not honour the annotation cni.cilium.io/ipAddress.", true},
		{"missing disk", func(o *Observed) { o.Devices[0].Disk = nil },
			"BlockDevicesReady", "BlockDevicesNotReady",
			"VirtualDisk team/root not found: create it or correct spec.blockDeviceRefs[0].name.", false},
		{"disk still being filled", func(o *Observed) {
			o.Devices[0] = diskDevice("root", "Provisioning")
			o.Devices[0].Disk.Status.Conditions = readyFalse("42% are copied.")
		}, "BlockDevicesReady", "BlockDevicesNotReady", "VirtualDisk team/root is not ready (Provisioning, Whatever): its conditions say more.", false},
		{"disk of another machine", func(o *Observed) {
			o.Devices[0].Disk.Status.AttachedToVirtualMachines = []v1alpha2.AttachedVirtualMachine{{Name: "db", Mounted: true}, {Name: "web"}}
		}, "BlockDevicesReady", "BlockDevicesNotReady",
			"VirtualDisk team/root is attached to VirtualMachine team/db: stop that machine or use another disk.", false},
		{"disk that is being copied", func(o *Observed) {
			o.Devices[0].Disk.Status.Conditions = []metav1.Condition{{Type: "InUse", Status: "True", Reason: "UsedForImageCreation"}}
		}, "BlockDevicesReady", "BlockDevicesNotReady", "VirtualDisk team/root is being copied into an image: the machine starts after that.", false},
		{"disk being deleted", func(o *Observed) { o.Devices[0] = diskDevice("root", "Terminating") },
			"BlockDevicesReady", "BlockDevicesNotReady", "VirtualDisk team/root is not ready (Terminating): its conditions say more.", false},
		{"disk that waits for a node", func(o *Observed) { o.Devices[0] = diskDevice("root", "WaitForFirstConsumer") },
			"BlockDevicesReady", "WaitingForWaitForFirstConsumerBlockDevicesToBeReady",
			"VirtualDisk team/root is made when the machine's node is known.", true},
		{"disk that is being filled", func(o *Observed) { o.Devices[0] = diskDevice("root", "Provisioning") },
			"BlockDevicesReady", "BlockDevicesNotReady", "VirtualDisk team/root is not ready (Provisioning): its conditions say more.", false},
		{"disk that is being filled on the node of a guest that waits for it", func(o *Observed) {
			running(t)(o)
			o.Devices[0] = diskDevice("root", "Provisioning")
		}, "BlockDevicesReady", "WaitingForWaitForFirstConsumerBlockDevicesToBeReady",
			"VirtualDisk team/root is being filled on the machine's node.", true},
		{"missing image", func(o *Observed) { imageRef(o, "VirtualImage") },
			"BlockDevicesReady", "BlockDevicesNotReady",
			"VirtualImage team/iso not found: create it or correct spec.blockDeviceRefs[0].name.", false},
		{"image being imported", func(o *Observed) { imageRef(o, "VirtualImage").Image = &v1alpha2.VirtualImage{} },
			"BlockDevicesReady", "BlockDevicesNotReady", "VirtualImage team/iso is not ready (new): its conditions say more.", false},
		{"missing cluster image", func(o *Observed) { imageRef(o, "ClusterVirtualImage") },
			"BlockDevicesReady", "BlockDevicesNotReady",
			"ClusterVirtualImage iso not found: create it or correct spec.blockDeviceRefs[0].name.", false},
		{"cluster image being imported", func(o *Observed) { imageRef(o, "ClusterVirtualImage").ClusterImage = &v1alpha2.ClusterVirtualImage{} },
			"BlockDevicesReady", "BlockDevicesNotReady", "ClusterVirtualImage iso is not ready (new): its conditions say more.", false},
		{"image that QEMU would have to unpack", func(o *Observed) { imageRef(o, "VirtualImage").Image = readyImage("vmdk") },
			"BlockDevicesReady", "BlockDevicesNotReady",
			"VirtualImage team/iso has the format vmdk, which a machine cannot have as it is: make a VirtualDisk " +
				"with the image as its spec.dataSource.objectRef, and name the disk in spec.blockDeviceRefs[0].", false},
		{"cluster image that QEMU would have to unpack", func(o *Observed) {
			imageRef(o, "ClusterVirtualImage").ClusterImage = readyClusterImage("vhdx")
		}, "BlockDevicesReady", "BlockDevicesNotReady",
			"ClusterVirtualImage iso has the format vhdx, which a machine cannot have as it is: make a VirtualDisk " +
				"with the image as its spec.dataSource.objectRef, and name the disk in spec.blockDeviceRefs[0].", false},
		{"two problems", func(o *Observed) {
			o.Devices = append(o.Devices, diskDevice("data", "Ready"))
			o.Devices[0].Disk, o.Devices[1].Disk = nil, nil
		}, "BlockDevicesReady", "BlockDevicesNotReady",
			"VirtualDisk team/root not found: create it or correct spec.blockDeviceRefs[0].name. VirtualDisk team/data not found: create it or correct spec.blockDeviceRefs[1].name.", false},
		{"missing Secret", withSecret(userData, nil), "ProvisioningReady", "ProvisioningNotReady",
			"Secret team/init not found: create it or correct spec.provisioning.userDataRef.name.", false},
		{"Secret of another type", withSecret(userData, &Secret{Type: "Opaque", Keys: []string{"userData"}}), "ProvisioningReady", "ProvisioningNotReady",
			"Secret team/init has the type Opaque: make it again with the type provisioning.virtualization.deckhouse.io/cloud-init.", false},
		{"Secret without the key", withSecret(userData, &Secret{Type: "provisioning.virtualization.deckhouse.io/cloud-init", Keys: []string{"user"}}),
			"ProvisioningReady", "ProvisioningNotReady", "Secret team/init has neither of the keys userData and userdata: add one.", false},
		{"missing answers", withSecret(sysprep, nil), "ProvisioningReady", "ProvisioningNotReady",
			"Secret team/answers not found: create it or correct spec.provisioning.sysprepRef.name.", false},
		{"answers without the key", withSecret(sysprep, &Secret{Type: "provisioning.virtualization.deckhouse.io/sysprep"}),
			"ProvisioningReady", "ProvisioningNotReady", "Secret team/answers has neither of the keys autounattend.xml and unattend.xml: add one.", false},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			o := observation(test.change)
			// The machine was told of before, so that nothing is held back.
			o.Machine.Status.Phase, o.Machine.Status.ObservedGeneration = "Pending", 1
			decided := Decide(o)
			if decided.Status == nil {
				t.Fatal("no status")
			}
			if got := expectCondition(t, decided.Status, test.condition, "False", test.reason).Message; got != test.message {
				t.Errorf("message %q\nwant    %q", got, test.message)
			}
			if got := expectCondition(t, decided.Status, "Ready", "False", "DependenciesNotReady").Message; got != test.message {
				t.Errorf("Ready says %q", got)
			}
			if applies := len(decided.Apply) > 0; applies != test.passes {
				t.Errorf("renders the machine: %v, want %v", applies, test.passes)
			}
			if !test.passes && decided.Status.Status.Phase != "Pending" {
				t.Errorf("phase %s", decided.Status.Status.Phase)
			}
		})
	}
}

func TestDependenciesReady(t *testing.T) {
	tests := map[string]func(*Observed){
		"plain":           func(*Observed) {},
		"resizing disk":   func(o *Observed) { o.Devices[0] = diskDevice("root", "Resizing") },
		"migrating disk":  func(o *Observed) { o.Devices[0] = diskDevice("root", "Migrating") },
		"class that goes": func(o *Observed) { o.Class.Status.Phase = "Terminating" },
		"image": func(o *Observed) {
			imageRef(o, "VirtualImage").Image = &v1alpha2.VirtualImage{Status: v1alpha2.VirtualImageStatus{Phase: "Ready"}}
		},
		"inline user data": withSecret(v1alpha2.Provisioning{Type: "UserData", UserData: "#cloud-config"}, nil),
		"Secret": withSecret(v1alpha2.Provisioning{Type: "UserDataRef", UserDataRef: &v1alpha2.UserDataRef{Name: "init"}},
			&Secret{Type: "provisioning.virtualization.deckhouse.io/cloud-init", Keys: []string{"userdata"}}),
		"disk that is deleted under a running guest": func(o *Observed) { running(t)(o); o.Devices[0].Disk.Status.Phase = "Terminating" },
	}
	for name, change := range tests {
		t.Run(name, func(t *testing.T) {
			decided := Decide(observation(change))
			for conditionType, reason := range map[string]string{
				"VirtualMachineClassReady": "VirtualMachineClassReady", "VirtualMachineIPAddressReady": "VirtualMachineIPAddressReady",
				"BlockDevicesReady": "BlockDevicesReady", "ProvisioningReady": "ProvisioningReady",
			} {
				expectCondition(t, decided.Status, conditionType, "True", reason)
			}
			expectNoCondition(t, decided.Status, "SizingPolicyMatched")
			if len(decided.Apply) != 1 {
				t.Error("does not render the machine")
			}
		})
	}
}

// An image of a format that only QEMU can unpack is not given to a guest, whichever
// of them it is. On a claim it is unpacked already.
func TestImagesByTheirFormat(t *testing.T) {
	for format, passes := range map[string]bool{
		"": true, "raw": true, "qcow2": true, "iso": true, "vmdk": false, "vdi": false, "vpc": false, "vhdx": false,
	} {
		for kind, change := range map[string]func(*Observed){
			"namespaced": func(o *Observed) { imageRef(o, "VirtualImage").Image = readyImage(format) },
			"cluster":    func(o *Observed) { imageRef(o, "ClusterVirtualImage").ClusterImage = readyClusterImage(format) },
		} {
			if decided := Decide(observation(change)); len(decided.Apply) > 0 != passes {
				t.Errorf("%s image of the format %q renders the machine: %v", kind, format, !passes)
			}
		}
		onClaim := observation(func(o *Observed) {
			image := readyImage(format)
			image.Status.Target.PersistentVolumeClaimName = "d8v-vi-1"
			imageRef(o, "VirtualImage").Image = image
		})
		_, devices := judgeDevices(onClaim)
		if len(devices) != 1 || devices[0].PersistentVolumeClaim != "d8v-vi-1" || len(Decide(onClaim).Apply) == 0 {
			t.Errorf("image of the format %q on a claim: %+v", format, devices)
		}
	}
}

// The status keeps the class, so that a machine does not wander to another default.
func TestStatusKeepsTheClass(t *testing.T) {
	decided := Decide(observation(running(t)))
	if got := decided.Status.Status.VirtualMachineClassName; got != "generic" {
		t.Errorf("status.virtualMachineClassName: %q", got)
	}
}

func TestMachineWithoutAnyClassSaysWhatToDo(t *testing.T) {
	o := observation(func(o *Observed) {
		o.Class, o.Machine.Spec.VirtualMachineClassName = nil, ""
	})
	o.Now = o.Now.Add(time.Hour)
	status := Decide(o).Status.Status
	condition := meta.FindStatusCondition(status.Conditions, "VirtualMachineClassReady")
	for _, part := range []string{"names no class", "spec.virtualMachineClassName", `virtualmachineclass.virtualization.deckhouse.io/is-default-class: "true"`} {
		if condition == nil || condition.Status != "False" || !strings.Contains(condition.Message, part) {
			t.Errorf("condition %v does not hold %q", condition, part)
		}
	}
	if status.VirtualMachineClassName != "" {
		t.Errorf("a class out of nothing: %q", status.VirtualMachineClassName)
	}
}
