// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

// Finalizers. A "cleanup" finalizer holds an object until the platform has removed what it made for it;
// a "protection" finalizer holds an object while something else still uses it.
const (
	// FinalizerVMCleanup holds a VirtualMachine until its guest, pods and block devices are let go.
	FinalizerVMCleanup = "virtualization.deckhouse.io/vm-cleanup"
	// FinalizerVMClassCleanup holds a VirtualMachineClass while a machine names it. Earlier releases put
	// FinalizerVMCleanup on classes, so whoever removes this one has to remove that one as well.
	FinalizerVMClassCleanup = "virtualization.deckhouse.io/vmclass-cleanup"
	// FinalizerVDCleanup holds a VirtualDisk until its volume and helpers are gone.
	FinalizerVDCleanup = "virtualization.deckhouse.io/vd-cleanup"
	// FinalizerVICleanup holds a VirtualImage until its stored bytes and helpers are gone.
	FinalizerVICleanup = "virtualization.deckhouse.io/vi-cleanup"
	// FinalizerCVICleanup holds a ClusterVirtualImage until its stored bytes and helpers are gone.
	FinalizerCVICleanup = "virtualization.deckhouse.io/cvi-cleanup"
	// FinalizerVMIPCleanup holds a VirtualMachineIPAddress while a machine uses the address.
	FinalizerVMIPCleanup = "virtualization.deckhouse.io/vmip-cleanup"
	// FinalizerVMIPProtection is the name that earlier releases gave to FinalizerVMIPCleanup; it is only removed.
	FinalizerVMIPProtection = "virtualization.deckhouse.io/vmip-protection"
	// FinalizerVMIPLeaseCleanup holds a VirtualMachineIPAddressLease until it is released.
	FinalizerVMIPLeaseCleanup = "virtualization.deckhouse.io/vmipl-cleanup"
	// FinalizerVMBDACleanup holds a VirtualMachineBlockDeviceAttachment until the device is unplugged.
	FinalizerVMBDACleanup = "virtualization.deckhouse.io/vmbda-cleanup"
	// FinalizerVMOPCleanup holds a VirtualMachineOperation until it is finished or cancelled.
	FinalizerVMOPCleanup = "virtualization.deckhouse.io/vmop-cleanup"
	// FinalizerVMOPEvacuation holds an operation that the evacuation of a node has ordered.
	FinalizerVMOPEvacuation = "virtualization.deckhouse.io/vmop-protection-by-evacuation-controller"
	// FinalizerVMOPMachine holds an operation that its machine is still carrying out.
	FinalizerVMOPMachine = "virtualization.deckhouse.io/vmop-protection-by-vm-controller"
	// FinalizerVDProtection holds a VirtualDisk while a machine has it mounted.
	FinalizerVDProtection = "virtualization.deckhouse.io/vd-protection"
	// FinalizerVIProtection holds a VirtualImage while a machine uses it.
	FinalizerVIProtection = "virtualization.deckhouse.io/vi-protection"
	// FinalizerCVIProtection holds a ClusterVirtualImage while a machine uses it.
	FinalizerCVIProtection = "virtualization.deckhouse.io/cvi-protection"
	// FinalizerPVCProtection holds a PersistentVolumeClaim behind a machine that may have it mounted.
	FinalizerPVCProtection = "virtualization.deckhouse.io/pvc-protection"
	// FinalizerPodProtection holds a helper or guest pod until its last state was read.
	FinalizerPodProtection = "virtualization.deckhouse.io/pod-protection"
	// FinalizerKVVMProtection holds the engine's VirtualMachine object until its owner is deleted.
	FinalizerKVVMProtection = "virtualization.deckhouse.io/kvvm-protection"
)

// Labels that users and other modules may read.
const (
	// LabelVirtualMachineUID is on address claims that were made for a machine; the value is the machine's uid.
	LabelVirtualMachineUID = "virtualization.deckhouse.io/virtual-machine-uid"
	// LabelVirtualMachineIPAddressUID is on leases; the value is the uid of the claim.
	LabelVirtualMachineIPAddressUID = "virtualization.deckhouse.io/virtual-machine-ip-address-uid"
)

// Annotations that users set.
const (
	// AnnotationDefaultClass marks the one VirtualMachineClass that machines get when they name none.
	AnnotationDefaultClass = "virtualmachineclass.virtualization.deckhouse.io/is-default-class"
	// AnnotationVolumeMode on a VirtualDisk or a StorageClass chooses Block or Filesystem for the volume.
	AnnotationVolumeMode = "virtualdisk.virtualization.deckhouse.io/volume-mode"
	// AnnotationAccessMode on a VirtualDisk or a StorageClass chooses ReadWriteOnce or ReadWriteMany for the volume.
	AnnotationAccessMode = "virtualdisk.virtualization.deckhouse.io/access-mode"
	// AnnotationBindingMode with the value Immediate makes the volume not wait for its first consumer.
	AnnotationBindingMode = "virtualdisk.virtualization.deckhouse.io/binding-mode"
)

// Annotations that the platform keeps on the engine's objects and pods, never on the objects of users.
const (
	// AnnotationStartRequested asks for one start of the guest.
	AnnotationStartRequested = "virtualization.deckhouse.io/vm-start-requested"
	// AnnotationRestartRequested asks for one restart of the guest.
	AnnotationRestartRequested = "virtualization.deckhouse.io/vm-restart-requested"
	// AnnotationLastAppliedSpec keeps the machine's spec that the running guest was started with.
	AnnotationLastAppliedSpec = "internal.virtualization.deckhouse.io/vm.last-applied-spec"
	// AnnotationLastAppliedClassSpec keeps the class's spec that the running guest was started with.
	AnnotationLastAppliedClassSpec = "internal.virtualization.deckhouse.io/vmclass.last-applied-spec"
	// AnnotationCiliumIPAddress asks the network plugin for a certain address of a pod.
	AnnotationCiliumIPAddress = "cni.cilium.io/ipAddress"
)

// Secret types that a machine's provisioning accepts, and the keys that are read from them.
const (
	// SecretTypeCloudInit is the type of a Secret with cloud-init user data.
	SecretTypeCloudInit = "provisioning.virtualization.deckhouse.io/cloud-init"
	// SecretTypeSysprep is the type of a Secret with Windows answer files.
	SecretTypeSysprep = "provisioning.virtualization.deckhouse.io/sysprep"
	// SecretKeyUserData is the key of cloud-init user data.
	SecretKeyUserData = "userData"
	// SecretKeyUserDataLower is the other accepted spelling of SecretKeyUserData.
	SecretKeyUserDataLower = "userdata"
	// SecretKeyAutounattend is the key of the answer file that Windows Setup reads.
	SecretKeyAutounattend = "autounattend.xml"
	// SecretKeyUnattend is the key of the answer file that a generalised Windows reads at its first boot.
	SecretKeyUnattend = "unattend.xml"
)
