// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// RunPolicy says when a machine is powered on.
// +kubebuilder:validation:Enum=AlwaysOn;AlwaysOff;Manual;AlwaysOnUnlessStoppedManually
type RunPolicy string

const (
	// RunPolicyAlwaysOn keeps the machine on, even after it was shut down from inside.
	RunPolicyAlwaysOn RunPolicy = "AlwaysOn"
	// RunPolicyAlwaysOff keeps the machine off.
	RunPolicyAlwaysOff RunPolicy = "AlwaysOff"
	// RunPolicyManual leaves starting and stopping to the user; only a reboot from inside starts it again.
	RunPolicyManual RunPolicy = "Manual"
	// RunPolicyAlwaysOnUnlessStoppedManually keeps the machine on until the user stops it.
	RunPolicyAlwaysOnUnlessStoppedManually RunPolicy = "AlwaysOnUnlessStoppedManually"
)

// OSType chooses the set of virtual hardware that suits an operating system.
// +kubebuilder:validation:Enum=Windows;Generic;Legacy
type OSType string

const (
	// OSTypeWindows adds what Windows likes: Hyper-V enlightenments and a TPM.
	OSTypeWindows OSType = "Windows"
	// OSTypeGeneric suits Linux and most other systems.
	OSTypeGeneric OSType = "Generic"
	// OSTypeLegacy is old hardware (i440fx, IDE) for systems that know nothing newer. This release's engine has none.
	OSTypeLegacy OSType = "Legacy"
)

// Bootloader chooses the firmware of a machine.
// +kubebuilder:validation:Enum=BIOS;EFI;EFIWithSecureBoot
type Bootloader string

const (
	// BootloaderBIOS is the classic firmware.
	BootloaderBIOS Bootloader = "BIOS"
	// BootloaderEFI is UEFI.
	BootloaderEFI Bootloader = "EFI"
	// BootloaderEFIWithSecureBoot is UEFI that only boots signed systems.
	BootloaderEFIWithSecureBoot Bootloader = "EFIWithSecureBoot"
)

// RestartApprovalMode says who restarts a machine when a change needs it.
// +kubebuilder:validation:Enum=Manual;Automatic
type RestartApprovalMode string

const (
	// RestartApprovalManual waits for the user to restart the machine.
	RestartApprovalManual RestartApprovalMode = "Manual"
	// RestartApprovalAutomatic lets the platform restart the machine at once.
	RestartApprovalAutomatic RestartApprovalMode = "Automatic"
)

// LiveMigrationPolicy says how far a live migration may slow the guest down to come to an end.
// +kubebuilder:validation:Enum=AlwaysSafe;PreferSafe;AlwaysForced;PreferForced
type LiveMigrationPolicy string

const (
	// LiveMigrationAlwaysSafe never slows the guest; an operation cannot force it.
	LiveMigrationAlwaysSafe LiveMigrationPolicy = "AlwaysSafe"
	// LiveMigrationPreferSafe does not slow the guest unless an operation forces it.
	LiveMigrationPreferSafe LiveMigrationPolicy = "PreferSafe"
	// LiveMigrationAlwaysForced slows the guest when needed; an operation cannot forbid it.
	LiveMigrationAlwaysForced LiveMigrationPolicy = "AlwaysForced"
	// LiveMigrationPreferForced slows the guest when needed unless an operation forbids it.
	LiveMigrationPreferForced LiveMigrationPolicy = "PreferForced"
)

// ProvisioningType says what a guest is set up with at its first boot.
// +kubebuilder:validation:Enum=UserData;UserDataRef;SysprepRef
type ProvisioningType string

const (
	// ProvisioningUserData is cloud-init user data written in the spec.
	ProvisioningUserData ProvisioningType = "UserData"
	// ProvisioningUserDataRef is cloud-init user data in a Secret.
	ProvisioningUserDataRef ProvisioningType = "UserDataRef"
	// ProvisioningSysprepRef is a Windows answer file in a Secret.
	ProvisioningSysprepRef ProvisioningType = "SysprepRef"
)

// BlockDeviceKind is the kind of an object that a machine can attach.
type BlockDeviceKind string

const (
	// BlockDeviceClusterVirtualImage is a read-only image of the cluster.
	BlockDeviceClusterVirtualImage BlockDeviceKind = ClusterVirtualImageKind
	// BlockDeviceVirtualImage is a read-only image of the project.
	BlockDeviceVirtualImage BlockDeviceKind = VirtualImageKind
	// BlockDeviceVirtualDisk is a writable disk.
	BlockDeviceVirtualDisk BlockDeviceKind = VirtualDiskKind
)

// CoreFractionAuto as a core fraction leaves it to the platform, which takes the default of the class.
const CoreFractionAuto = "Auto"

// VirtualMachine is a machine with its own operating system, made of processors, memory and block devices.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,singular=virtualmachine,shortName=vm,categories=all;virtualization
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Uptime",type=date,JSONPath=`.status.stats.lastStartTime`
// +kubebuilder:printcolumn:name="Cores",type=string,priority=1,JSONPath=`.status.resources.cpu.cores`
// +kubebuilder:printcolumn:name="CoreFraction",type=string,priority=1,JSONPath=`.status.resources.cpu.coreFraction`
// +kubebuilder:printcolumn:name="Memory",type=string,priority=1,JSONPath=`.status.resources.memory.size`
// +kubebuilder:printcolumn:name="Need restart",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=='AwaitingRestartToApplyConfiguration')].status`
// +kubebuilder:printcolumn:name="Agent",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=='AgentReady')].status`
// +kubebuilder:printcolumn:name="Migratable",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=='Migratable')].status`
// +kubebuilder:printcolumn:name="Node",type=string,JSONPath=`.status.nodeName`
// +kubebuilder:printcolumn:name="IPAddress",type=string,JSONPath=`.status.ipAddress`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || size(self.metadata.name) <= 63",message="metadata.name must be no longer than 63 characters",optionalOldSelf=true
type VirtualMachine struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec VirtualMachineSpec `json:"spec"`

	// status is what the platform has made of it. A new machine has the phase Pending until the platform has looked at
	// it, which observedGeneration tells.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0, "phase": "Pending"}
	Status VirtualMachineStatus `json:"status,omitempty"`
}

// VirtualMachineSpec is what the user wants of a machine. A change that cannot be applied to the running guest waits
// for its next restart and is listed in status.restartAwaitingChanges.
// +kubebuilder:validation:XValidation:rule="self.osType != 'Legacy' || self.bootloader == 'BIOS'",message="bootloader must be BIOS when osType is Legacy",fieldPath=".bootloader"
// +kubebuilder:validation:XValidation:rule="self.osType != 'Legacy' || !has(self.provisioning)",message="provisioning must be left out when osType is Legacy",fieldPath=".provisioning"
// +kubebuilder:validation:XValidation:rule="self.osType != 'Legacy' || self.enableParavirtualization || size(self.blockDeviceRefs) <= 4",message="blockDeviceRefs may have 4 devices at most when osType is Legacy and enableParavirtualization is false",fieldPath=".blockDeviceRefs"
type VirtualMachineSpec struct {
	// runPolicy says when the machine is powered on. AlwaysOn: always, even after a shutdown from inside. AlwaysOff:
	// never. Manual: when the user says so; a reboot from inside works. AlwaysOnUnlessStoppedManually: always, until
	// the user stops it or shuts it down from inside. A change applies at once.
	// +optional
	// +kubebuilder:default=AlwaysOnUnlessStoppedManually
	RunPolicy RunPolicy `json:"runPolicy,omitempty"`

	// virtualMachineClassName is the class that decides the processor model, the nodes and the allowed sizes; without
	// it, the class that is the default when the machine is created. A change needs a restart.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	VirtualMachineClassName string `json:"virtualMachineClassName,omitempty"`

	// cpu is the processor power of the machine.
	// +required
	CPU CPUSpec `json:"cpu"`

	// memory is the memory of the machine.
	// +required
	Memory MemorySpec `json:"memory"`

	// blockDeviceRefs lists the disks and images of the machine. The guest boots from the first that is bootable,
	// unless bootOrder is used.
	// +required
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.kind == b.kind && a.name == b.name))",message="blockDeviceRefs must not name a device twice"
	// +kubebuilder:validation:XValidation:rule="self.all(a, !has(a.bootOrder) || self.exists_one(b, has(b.bootOrder) && a.bootOrder == b.bootOrder))",message="bootOrder must differ between devices"
	BlockDeviceRefs []BlockDeviceRef `json:"blockDeviceRefs"`

	// bootloader is the firmware. The variables of EFI are kept on a small volume of the cluster's default storage
	// class. A change needs a restart, and a system installed with one firmware seldom boots with another.
	// +optional
	// +kubebuilder:default=BIOS
	Bootloader Bootloader `json:"bootloader,omitempty"`

	// osType chooses the virtual hardware. Windows: q35, Hyper-V enlightenments and a TPM whose content is kept on a
	// small volume of the cluster's default storage class. Generic: q35 and a source of random numbers; for Linux and
	// most others. Legacy: i440fx with IDE disks and an rtl8139 card, for systems that know nothing newer; the engine of
	// this release has none of that, so that such machines are refused. A change needs a restart.
	// +optional
	// +kubebuilder:default=Generic
	OSType OSType `json:"osType,omitempty"`

	// enableParavirtualization gives the guest virtio disks and network, which are much faster and need drivers (Linux
	// has them; Windows needs them installed). Without it the devices are emulated SATA and e1000. A change needs a
	// restart.
	// +optional
	// +kubebuilder:default=true
	EnableParavirtualization *bool `json:"enableParavirtualization,omitempty"`

	// provisioning sets the guest up at its first boot. A change needs a restart; most guests look at it only once.
	// +optional
	Provisioning *Provisioning `json:"provisioning,omitempty"`

	// virtualMachineIPAddressName is the VirtualMachineIPAddress that the machine takes. If it is not set, the platform
	// makes one that lives as long as the machine. A change needs a restart.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	VirtualMachineIPAddressName string `json:"virtualMachineIPAddressName,omitempty"`

	// nodeSelector lists labels that a node must have to run the machine, in addition to those that the class asks for.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`

	// affinity says which nodes, machines and pods the machine wants to be near to or far from.
	// +optional
	Affinity *Affinity `json:"affinity,omitempty"`

	// tolerations lists the node taints that the machine accepts, in addition to those that the class accepts.
	// +optional
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// topologySpreadConstraints says how machines with the same labels are spread over the cluster. A change needs a
	// restart.
	// +optional
	// +listType=atomic
	TopologySpreadConstraints []corev1.TopologySpreadConstraint `json:"topologySpreadConstraints,omitempty"`

	// priorityClassName is the PriorityClass of the machine; a machine of a higher priority may push others off a full
	// node. A change needs a restart.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	PriorityClassName string `json:"priorityClassName,omitempty"`

	// terminationGracePeriodSeconds is how long the guest may take to shut down before it is switched off, in seconds.
	// A change needs a restart.
	// +optional
	// +kubebuilder:default=60
	// +kubebuilder:validation:Minimum=0
	TerminationGracePeriodSeconds *int64 `json:"terminationGracePeriodSeconds,omitempty"`

	// disruptions says who restarts the machine when a change needs it. A change applies at once.
	// +optional
	// +kubebuilder:default={"restartApprovalMode": "Manual"}
	Disruptions *Disruptions `json:"disruptions,omitempty"`

	// liveMigrationPolicy says how far a live migration may slow the guest down to come to an end. AlwaysSafe: never,
	// and an operation cannot force it. PreferSafe: only if an operation forces it. AlwaysForced: when needed, and an
	// operation cannot forbid it. PreferForced: when needed, unless an operation forbids it. A change applies to the
	// next migration.
	// +optional
	// +kubebuilder:default=PreferSafe
	LiveMigrationPolicy LiveMigrationPolicy `json:"liveMigrationPolicy,omitempty"`
}

// CPUSpec is the processor power of a machine.
type CPUSpec struct {
	// cores is the number of virtual processors. They are laid out on 1 socket up to 16 cores, on 2 up to 32 (an even
	// number), on 4 up to 64 (a multiple of 4) and on 8 up to 248 (a multiple of 8). A running guest can get more, by whole
	// sockets and up to four times what it was started with, and moves to another node for it; fewer need a restart.
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=248
	// +kubebuilder:validation:XValidation:rule="self <= 16 || (self <= 32 && self % 2 == 0) || (self <= 64 && self % 4 == 0) || self % 8 == 0",message="cores must be even above 16, a multiple of 4 above 32 and a multiple of 8 above 64"
	Cores int32 `json:"cores"`

	// coreFraction is the guaranteed share of every core, from 1% to 100%; what the node has to spare comes on top.
	// Without it, or with Auto, the default of the class is taken, then 100%: this version does not measure the load. A
	// change needs a restart.
	// +optional
	// +kubebuilder:validation:MaxLength=4
	// +kubebuilder:validation:XValidation:rule="self == 'Auto' || self.matches('^([1-9][0-9]?|100)%$')",message="coreFraction must be a whole percentage from 1% to 100%, for example 25%, or Auto"
	CoreFraction string `json:"coreFraction,omitempty"`
}

// MemorySpec is the memory of a machine.
type MemorySpec struct {
	// size is the memory that the guest sees, for example 4Gi. A running guest that was started with at least 1Gi can get
	// up to four times that, and moves to another node for it; less than it was started with needs a restart.
	// +required
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0'))",message="size must be greater than zero, for example 4Gi"
	Size resource.Quantity `json:"size"`
}

// BlockDeviceRef names a block device of a machine.
type BlockDeviceRef struct {
	// kind is the kind of the device. Images are attached read-only, ISO images as CD-ROM.
	// +required
	// +kubebuilder:validation:Enum=ClusterVirtualImage;VirtualImage;VirtualDisk
	Kind BlockDeviceKind `json:"kind"`

	// name is the name of the device; a VirtualImage or a VirtualDisk is looked up in the namespace of the machine.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// bootOrder is the place of the device in the order of booting, from 1. As soon as one device has it, only the
	// devices that have it are booted from. A change needs a restart.
	// +optional
	// +kubebuilder:validation:Minimum=1
	BootOrder *int32 `json:"bootOrder,omitempty"`
}

// Provisioning sets a guest up at its first boot: the type and the one member that belongs to it.
// +kubebuilder:validation:XValidation:rule="has(self.userData) == (self.type == 'UserData')",message="userData must be set when type is UserData, and only then",fieldPath=".userData"
// +kubebuilder:validation:XValidation:rule="has(self.userDataRef) == (self.type == 'UserDataRef')",message="userDataRef must be set when type is UserDataRef, and only then",fieldPath=".userDataRef"
// +kubebuilder:validation:XValidation:rule="has(self.sysprepRef) == (self.type == 'SysprepRef')",message="sysprepRef must be set when type is SysprepRef, and only then",fieldPath=".sysprepRef"
type Provisioning struct {
	// type chooses the way: UserData and UserDataRef are cloud-init, SysprepRef is for Windows.
	// +required
	Type ProvisioningType `json:"type"`

	// userData is cloud-init user data when type is UserData, up to 2048 bytes.
	// +optional
	// +kubebuilder:validation:XValidation:rule="size(bytes(self)) <= 2048",message="userData must be no longer than 2048 bytes: put longer data into a Secret and set type UserDataRef"
	UserData string `json:"userData,omitempty"`

	// userDataRef names the Secret with cloud-init user data when type is UserDataRef. The Secret has the type
	// provisioning.virtualization.deckhouse.io/cloud-init and the key userData.
	// +optional
	UserDataRef *UserDataRef `json:"userDataRef,omitempty"`

	// sysprepRef names the Secret with a Windows answer file when type is SysprepRef. The Secret has the type
	// provisioning.virtualization.deckhouse.io/sysprep and the key autounattend.xml or unattend.xml.
	// +optional
	SysprepRef *SysprepRef `json:"sysprepRef,omitempty"`
}

// UserDataRef names the Secret with cloud-init user data.
type UserDataRef struct {
	// kind is the kind of the object; only a Secret will do.
	// +required
	// +kubebuilder:default=Secret
	// +kubebuilder:validation:Enum=Secret
	Kind string `json:"kind"`

	// name is the name of the Secret, in the namespace of the machine.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// SysprepRef names the Secret with a Windows answer file.
type SysprepRef struct {
	// kind is the kind of the object; only a Secret will do.
	// +required
	// +kubebuilder:default=Secret
	// +kubebuilder:validation:Enum=Secret
	Kind string `json:"kind"`

	// name is the name of the Secret, in the namespace of the machine.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// Disruptions says who restarts a machine when a change needs it.
type Disruptions struct {
	// restartApprovalMode is Manual (the user restarts the machine when it suits) or Automatic (the platform restarts
	// it at once).
	// +optional
	RestartApprovalMode RestartApprovalMode `json:"restartApprovalMode,omitempty"`
}

// VirtualMachineList is a list of machines.
// +kubebuilder:object:root=true
type VirtualMachineList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualMachine `json:"items"`
}
