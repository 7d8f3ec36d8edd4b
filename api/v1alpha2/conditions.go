// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

// ConditionType names a condition. It is a plain string, as metav1.Condition wants it.
type ConditionType = string

// ConditionReason explains the status of a condition in one word. It is a plain string, as metav1.Condition wants it.
type ConditionReason = string

// Conditions of more than one kind.
const (
	// ConditionReady sums up all other conditions of an object: True means that it is what its spec asks for.
	ConditionReady ConditionType = "Ready"
	// ConditionDatasourceReady tells whether the source of an image or a disk exists and can be read.
	ConditionDatasourceReady ConditionType = "DatasourceReady"
	// ConditionStorageClassReady tells whether the storage class of a disk or an image exists and may be used.
	ConditionStorageClassReady ConditionType = "StorageClassReady"
	// ConditionInUse is True while something uses the object; for classes and images it then cannot be deleted.
	ConditionInUse ConditionType = "InUse"
	// ConditionTerminating is only there while an object is being deleted and tells what that waits for.
	ConditionTerminating ConditionType = "Terminating"
	// ConditionMigrating of a machine tells how far a live migration is, of a disk that its content is being moved.
	ConditionMigrating ConditionType = "Migrating"
)

// Conditions of VirtualDisk.
const (
	// ConditionResizing is True while the volume is being enlarged.
	ConditionResizing ConditionType = "Resizing"
)

// Conditions of VirtualMachine.
const (
	// ConditionVirtualMachineClassReady tells whether the class exists and has nodes.
	ConditionVirtualMachineClassReady ConditionType = "VirtualMachineClassReady"
	// ConditionVirtualMachineIPAddressReady tells whether the machine holds its address.
	ConditionVirtualMachineIPAddressReady ConditionType = "VirtualMachineIPAddressReady"
	// ConditionBlockDevicesReady tells whether all block devices can be attached.
	ConditionBlockDevicesReady ConditionType = "BlockDevicesReady"
	// ConditionProvisioningReady tells whether the data for the first boot can be used.
	ConditionProvisioningReady ConditionType = "ProvisioningReady"
	// ConditionRunning tells whether the guest runs.
	ConditionRunning ConditionType = "Running"
	// ConditionAgentReady tells whether the agent in the guest answers.
	ConditionAgentReady ConditionType = "AgentReady"
	// ConditionAgentVersionNotSupported is only there, and True, when the agent in the guest is too old.
	ConditionAgentVersionNotSupported ConditionType = "AgentVersionNotSupported"
	// ConditionConfigurationApplied is only there, and False, while a change of the spec could not be applied.
	ConditionConfigurationApplied ConditionType = "ConfigurationApplied"
	// ConditionAwaitingRestartToApplyConfiguration is only there, and True, while changes of the spec wait for a restart.
	ConditionAwaitingRestartToApplyConfiguration ConditionType = "AwaitingRestartToApplyConfiguration"
	// ConditionMigratable tells whether the guest can be moved to another node while it runs.
	ConditionMigratable ConditionType = "Migratable"
	// ConditionEvictionRequired is only there, and True, while the guest has to leave its node.
	ConditionEvictionRequired ConditionType = "EvictionRequired"
	// ConditionSizingPolicyMatched is only there, and False, while the machine has a size that its class does not allow.
	ConditionSizingPolicyMatched ConditionType = "SizingPolicyMatched"
	// ConditionFirmwareUpToDate is only there, and False, while the guest runs on an older emulator than it would get now.
	ConditionFirmwareUpToDate ConditionType = "FirmwareUpToDate"
	// ConditionFilesystemFrozen is only there, and True, while the guest's file systems are frozen.
	ConditionFilesystemFrozen ConditionType = "FilesystemFrozen"
)

// Conditions of VirtualMachineClass.
const (
	// ConditionDiscovered tells whether the shared processor features of the chosen nodes were found out.
	ConditionDiscovered ConditionType = "Discovered"
)

// Conditions of VirtualMachineBlockDeviceAttachment.
const (
	// ConditionBlockDeviceReady tells whether the device can be attached.
	ConditionBlockDeviceReady ConditionType = "BlockDeviceReady"
	// ConditionVirtualMachineReady tells whether the machine can take the device.
	ConditionVirtualMachineReady ConditionType = "VirtualMachineReady"
	// ConditionAttached tells whether the device is attached; of an address claim, whether a machine uses the address.
	ConditionAttached ConditionType = "Attached"
	// ConditionDiskAttachmentCapacityAvailable tells whether the machine has room for one more device.
	ConditionDiskAttachmentCapacityAvailable ConditionType = "DiskAttachmentCapacityAvailableType"
)

// Conditions of VirtualMachineOperation.
const (
	// ConditionCompleted tells whether the operation has ended well, and otherwise how far it is or why it failed.
	ConditionCompleted ConditionType = "Completed"
	// ConditionSignalSent tells whether the order was handed to the machine.
	ConditionSignalSent ConditionType = "SignalSent"
	// ConditionStalled is only there, and True, when the operation has ended without its effect; nothing more happens.
	ConditionStalled ConditionType = "Stalled"
)

// Conditions of VirtualMachineIPAddress and VirtualMachineIPAddressLease.
const (
	// ConditionBound tells whether the claim holds an address; of a lease, whether a claim holds it.
	ConditionBound ConditionType = "Bound"
)
