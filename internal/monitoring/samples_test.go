// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// samples are objects that between them have everything that is told.
func samples() []client.Object {
	return []client.Object{
		fullMachine(), fullDisk(), diskInTheMaking(), readyImage(), readyClusterImage(), imageInTheMaking(), clusterImageInTheMaking(),
		attachment(), migration(), failedStop(), class(), boundAddress(), boundLease(), node("node-1", "true"),
	}
}

// fullMachine is a machine that runs, was moved, and waits for a restart.
func fullMachine() *v1alpha2.VirtualMachine {
	return &v1alpha2.VirtualMachine{
		ObjectMeta: meet("team", "web", "app", "shop", "example.com/tier", "front"),
		Spec: v1alpha2.VirtualMachineSpec{
			RunPolicy: v1alpha2.RunPolicyAlwaysOn, VirtualMachineClassName: "generic", OSType: v1alpha2.OSTypeGeneric,
			CPU: v1alpha2.CPUSpec{Cores: 4, CoreFraction: "50%"}, Memory: v1alpha2.MemorySpec{Size: resource.MustParse("4Gi")},
		},
		Status: v1alpha2.VirtualMachineStatus{
			Phase: v1alpha2.MachineRunning, NodeName: "node-1", IPAddress: "10.66.10.1",
			GuestOSInfo: &v1alpha2.GuestOSInfo{PrettyName: "Debian GNU/Linux 13"},
			Conditions: []metav1.Condition{
				condition(v1alpha2.ConditionReady, metav1.ConditionTrue, v1alpha2.ReasonReady, 60),
				condition(v1alpha2.ConditionAgentReady, metav1.ConditionTrue, v1alpha2.ReasonAgentReady, 70),
				condition(v1alpha2.ConditionMigratable, metav1.ConditionFalse, v1alpha2.ReasonVirtualMachineDisksNotMigratable, 60),
				condition(v1alpha2.ConditionAwaitingRestartToApplyConfiguration, metav1.ConditionTrue, v1alpha2.ReasonChangesPendingRestart, 80),
				condition(v1alpha2.ConditionFirmwareUpToDate, metav1.ConditionFalse, v1alpha2.ReasonFirmwareOutOfDate, 90),
			},
			Resources: &v1alpha2.ResourcesStatus{
				CPU: v1alpha2.CPUStatus{
					Cores: 2, CoreFraction: "25%", RequestedCores: ptr.To(resource.MustParse("500m")), RuntimeOverhead: ptr.To(resource.MustParse("100m")),
				},
				Memory: v1alpha2.MemoryStatus{Size: resource.MustParse("2Gi"), RuntimeOverhead: ptr.To(resource.MustParse("200Mi"))},
			},
			BlockDeviceRefs: []v1alpha2.BlockDeviceStatusRef{
				{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "root", Attached: true}, {Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "data", Attached: true},
				{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "late"},
			},
			VirtualMachinePods:     []v1alpha2.VirtualMachinePod{{Name: "launcher-old"}, {Name: "launcher-new", Active: true}},
			RestartAwaitingChanges: []v1alpha2.RestartAwaitingChange{{Path: "cpu.cores"}, {Path: "memory.size"}},
			MigrationState: &v1alpha2.VirtualMachineMigrationState{
				StartTimestamp: at(100), EndTimestamp: at(130), Result: "Succeeded",
				Source: v1alpha2.MigrationPlace{Node: "node-2"}, Target: v1alpha2.MigrationPlace{Node: "node-1"},
			},
			Stats: &v1alpha2.VirtualMachineStats{LastStartTime: at(60), LaunchTimeDuration: v1alpha2.LaunchTimeDuration{
				WaitingForDependencies: took(20), VirtualMachineStarting: took(30), GuestOSAgentStarting: took(10),
			}},
		},
	}
}

// fullDisk is a disk that is in use and was moved.
func fullDisk() *v1alpha2.VirtualDisk {
	return &v1alpha2.VirtualDisk{
		ObjectMeta: meet("team", "root", "app", "shop"),
		Spec:       v1alpha2.VirtualDiskSpec{DataSource: &v1alpha2.VirtualDiskDataSource{Type: "HTTP"}},
		Status: v1alpha2.VirtualDiskStatus{
			Phase: v1alpha2.DiskReady, Progress: "100%", Capacity: "10Gi", StorageClassName: "fast",
			Target: v1alpha2.VirtualDiskTarget{PersistentVolumeClaimName: "d8v-vd-root"},
			Conditions: []metav1.Condition{
				condition(v1alpha2.ConditionReady, metav1.ConditionTrue, v1alpha2.ReasonReady, 60),
				condition(v1alpha2.ConditionInUse, metav1.ConditionTrue, v1alpha2.ReasonAttachedToVirtualMachine, 70),
			},
			DownloadSpeed: &v1alpha2.DownloadSpeed{AvgBytes: "104857600"},
			Stats: v1alpha2.VirtualDiskStats{CreationDuration: v1alpha2.VirtualDiskCreationDuration{
				WaitingForDependencies: took(1), WaitingForFirstConsumer: took(2), DVCRProvisioning: took(3), TotalProvisioning: took(60),
			}},
		},
	}
}

func diskInTheMaking() *v1alpha2.VirtualDisk {
	return &v1alpha2.VirtualDisk{
		ObjectMeta: meet("team", "data"),
		Status: v1alpha2.VirtualDiskStatus{
			Phase: v1alpha2.DiskProvisioning, Progress: "37.5%",
			Conditions:    []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionFalse, v1alpha2.ReasonProvisioning, 5)},
			DownloadSpeed: &v1alpha2.DownloadSpeed{AvgBytes: "1000", CurrentBytes: "2000"},
		},
	}
}

func readyStatus() v1alpha2.ImageStatus {
	return v1alpha2.ImageStatus{
		Conditions: []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionTrue, v1alpha2.ReasonReady, 60)},
		Progress:   "100%", Format: "qcow2", Size: v1alpha2.ImageSize{StoredBytes: "1048576", UnpackedBytes: "4194304"},
		DownloadSpeed: &v1alpha2.DownloadSpeed{AvgBytes: "500"},
	}
}

func statusInTheMaking() v1alpha2.ImageStatus {
	return v1alpha2.ImageStatus{
		Conditions: []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionFalse, v1alpha2.ReasonProvisioning, 7)},
		Progress:   "50%", DownloadSpeed: &v1alpha2.DownloadSpeed{AvgBytes: "500", CurrentBytes: "600"},
	}
}

func readyImage() *v1alpha2.VirtualImage {
	return &v1alpha2.VirtualImage{
		ObjectMeta: meet("team", "debian"),
		Spec:       v1alpha2.VirtualImageSpec{Storage: "PersistentVolumeClaim", DataSource: v1alpha2.VirtualImageDataSource{Type: "Upload"}},
		Status:     v1alpha2.VirtualImageStatus{Phase: "Ready", ImageStatus: readyStatus()},
	}
}

func imageInTheMaking() *v1alpha2.VirtualImage {
	return &v1alpha2.VirtualImage{ObjectMeta: meet("team", "next"), Status: v1alpha2.VirtualImageStatus{ImageStatus: statusInTheMaking()}}
}

func readyClusterImage() *v1alpha2.ClusterVirtualImage {
	return &v1alpha2.ClusterVirtualImage{
		ObjectMeta: meet("", "alpine"),
		Spec:       v1alpha2.ClusterVirtualImageSpec{DataSource: v1alpha2.ClusterVirtualImageDataSource{Type: "HTTP"}},
		Status: v1alpha2.ClusterVirtualImageStatus{
			Phase: "Ready", ImageStatus: readyStatus(), UsedInNamespaces: []string{"team", "other"},
		},
	}
}

func clusterImageInTheMaking() *v1alpha2.ClusterVirtualImage {
	return &v1alpha2.ClusterVirtualImage{ObjectMeta: meet("", "next"), Status: v1alpha2.ClusterVirtualImageStatus{ImageStatus: statusInTheMaking()}}
}

func attachment() *v1alpha2.VirtualMachineBlockDeviceAttachment {
	return &v1alpha2.VirtualMachineBlockDeviceAttachment{
		ObjectMeta: meet("team", "plug"),
		Spec: v1alpha2.VirtualMachineBlockDeviceAttachmentSpec{
			VirtualMachineName: "web", BlockDeviceRef: v1alpha2.AttachmentBlockDeviceRef{Kind: v1alpha2.BlockDeviceVirtualDisk, Name: "data"},
		},
		Status: v1alpha2.VirtualMachineBlockDeviceAttachmentStatus{
			Phase:      "Attached",
			Conditions: []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionTrue, v1alpha2.ReasonAttached, 3)},
		},
	}
}

// migration goes on, and makes no headway.
func migration() *v1alpha2.VirtualMachineOperation {
	return &v1alpha2.VirtualMachineOperation{
		ObjectMeta: meet("team", "move"),
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: "Migrate", VirtualMachineName: "web"},
		Status: v1alpha2.VirtualMachineOperationStatus{
			Phase: v1alpha2.OperationInProgress, Progress: "80%",
			Conditions: []metav1.Condition{
				condition(v1alpha2.ConditionSignalSent, metav1.ConditionTrue, v1alpha2.ReasonSignalSentSuccess, 2),
				condition(v1alpha2.ConditionCompleted, metav1.ConditionFalse, v1alpha2.ReasonNotConverging, 1),
				condition(v1alpha2.ConditionReady, metav1.ConditionFalse, v1alpha2.ReasonNotConverging, 1),
			},
		},
	}
}

// failedStop has ended: nobody waits for it.
func failedStop() *v1alpha2.VirtualMachineOperation {
	return &v1alpha2.VirtualMachineOperation{
		ObjectMeta: meet("team", "stop"),
		Spec:       v1alpha2.VirtualMachineOperationSpec{Type: "Stop", VirtualMachineName: "web"},
		Status: v1alpha2.VirtualMachineOperationStatus{
			Phase: v1alpha2.OperationFailed,
			Conditions: []metav1.Condition{
				condition(v1alpha2.ConditionReady, metav1.ConditionFalse, v1alpha2.ReasonFailed, 1),
				condition(v1alpha2.ConditionStalled, metav1.ConditionTrue, v1alpha2.ReasonFailed, 9),
			},
		},
	}
}

func class() *v1alpha2.VirtualMachineClass {
	return &v1alpha2.VirtualMachineClass{
		ObjectMeta: meet("", "generic"),
		Status: v1alpha2.VirtualMachineClassStatus{
			Phase: v1alpha2.ClassReady, AvailableNodes: []string{"node-1", "node-2"},
			Conditions: []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionUnknown, v1alpha2.ReasonSuitableNodesFound, 4)},
		},
	}
}

func boundAddress() *v1alpha2.VirtualMachineIPAddress {
	return &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: meet("team", "web-ip"),
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: "Auto"},
		Status: v1alpha2.VirtualMachineIPAddressStatus{
			Phase: "Attached", Address: "10.66.10.1", VirtualMachineName: "web",
			Conditions: []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionTrue, v1alpha2.ReasonBound, 1)},
		},
	}
}

func boundLease() *v1alpha2.VirtualMachineIPAddressLease {
	return &v1alpha2.VirtualMachineIPAddressLease{
		ObjectMeta: meet("", "ip-10-66-10-1"),
		Spec:       v1alpha2.VirtualMachineIPAddressLeaseSpec{VirtualMachineIPAddressRef: &v1alpha2.VirtualMachineIPAddressRef{Namespace: "team", Name: "web-ip"}},
		Status: v1alpha2.VirtualMachineIPAddressLeaseStatus{
			Phase:      "Bound",
			Conditions: []metav1.Condition{condition(v1alpha2.ConditionReady, metav1.ConditionTrue, v1alpha2.ReasonBound, 1)},
		},
	}
}

// node has as many devices as KubeVirt gives it.
func node(name, schedulable string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{"kubevirt.io/schedulable": schedulable}},
		Spec:       corev1.NodeSpec{Unschedulable: schedulable != "true"},
		Status:     corev1.NodeStatus{Allocatable: corev1.ResourceList{"devices.kubevirt.io/kvm": resource.MustParse("1k")}},
	}
}
