// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

// Reasons of more than one kind.
const (
	// ReasonReady means that the object is what its spec asks for. Nobody has to act.
	ReasonReady ConditionReason = "Ready"
	// ReasonTerminating means that the object is being deleted. The message says what that waits for.
	ReasonTerminating ConditionReason = "Terminating"
	// ReasonCleanupPending means that what the platform made for the object is still being removed.
	ReasonCleanupPending ConditionReason = "CleanupPending"
	// ReasonNotInUse means that nothing uses the object; it can be deleted at once.
	ReasonNotInUse ConditionReason = "NotInUse"
	// ReasonAttachedToVirtualMachine means that a machine uses the object. The message names it.
	ReasonAttachedToVirtualMachine ConditionReason = "AttachedToVirtualMachine"
)

// Reasons of ConditionDatasourceReady.
const (
	// ReasonDatasourceReady means that the source can be read.
	ReasonDatasourceReady ConditionReason = "DatasourceReady"
	// ReasonContainerRegistrySecretNotFound means that the Secret in dataSource.containerImage.imagePullSecret is
	// missing. The user has to make it or correct the name.
	ReasonContainerRegistrySecretNotFound ConditionReason = "ContainerRegistrySecretNotFound"
	// ReasonImageNotFound means that the VirtualImage in dataSource.objectRef is missing.
	ReasonImageNotFound ConditionReason = "ImageNotFound"
	// ReasonImageNotReady means that the VirtualImage in dataSource.objectRef is not ready yet.
	ReasonImageNotReady ConditionReason = "ImageNotReady"
	// ReasonClusterImageNotFound means that the ClusterVirtualImage in dataSource.objectRef is missing.
	ReasonClusterImageNotFound ConditionReason = "ClusterImageNotFound"
	// ReasonClusterImageNotReady means that the ClusterVirtualImage in dataSource.objectRef is not ready yet.
	ReasonClusterImageNotReady ConditionReason = "ClusterImageNotReady"
	// ReasonVirtualDiskNotFound means that the VirtualDisk in dataSource.objectRef is missing.
	ReasonVirtualDiskNotFound ConditionReason = "VirtualDiskNotFound"
	// ReasonVirtualDiskNotReady means that the VirtualDisk in dataSource.objectRef is not ready yet.
	ReasonVirtualDiskNotReady ConditionReason = "VirtualDiskNotReady"
	// ReasonVirtualDiskAttachedToVirtualMachine means that a running machine holds the VirtualDisk in
	// dataSource.objectRef. The user has to stop the machine or detach the disk.
	ReasonVirtualDiskAttachedToVirtualMachine ConditionReason = "VirtualDiskAttachedToVirtualMachine"
	// ReasonDatasourceNotSupported means that this source cannot be used for this object.
	ReasonDatasourceNotSupported ConditionReason = "DatasourceNotSupported"
	// ReasonSourceNotFound means that the server or the registry does not have the file. The user corrects the address.
	ReasonSourceNotFound ConditionReason = "SourceNotFound"
	// ReasonSourceUnauthorized means that the server or the registry wants other credentials.
	ReasonSourceUnauthorized ConditionReason = "SourceUnauthorized"
	// ReasonSourceUnreachable means that the server does not answer. The platform tries again by itself.
	ReasonSourceUnreachable ConditionReason = "SourceUnreachable"
	// ReasonSourceTLS means that the server's certificate cannot be verified. The user sets caBundle.
	ReasonSourceTLS ConditionReason = "SourceTLS"
	// ReasonChecksumMismatch means that the bytes differ from dataSource.http.checksum or dataSource.upload.checksum.
	ReasonChecksumMismatch ConditionReason = "ChecksumMismatch"
	// ReasonFormatNotSupported means that the file is no disk image that the platform knows.
	ReasonFormatNotSupported ConditionReason = "FormatNotSupported"
	// ReasonFormatRefused means that the file is a disk image that is not safe to use, for example one that refers to
	// other files.
	ReasonFormatRefused ConditionReason = "FormatRefused"
	// ReasonImageCorrupt means that the file contradicts itself or ends too early.
	ReasonImageCorrupt ConditionReason = "ImageCorrupt"
)

// Reasons of ConditionReady of images and disks.
const (
	// ReasonWaitForUserUpload means that the upload address is open. The user has to upload the file.
	ReasonWaitForUserUpload ConditionReason = "WaitForUserUpload"
	// ReasonWaitForUserUploadTimeout means that nobody uploaded in time.
	ReasonWaitForUserUploadTimeout ConditionReason = "WaitForUserUploadTimeout"
	// ReasonProvisioning means that bytes are being fetched and stored.
	ReasonProvisioning ConditionReason = "Provisioning"
	// ReasonProvisioningNotStarted means that the work waits for something. The message says for what.
	ReasonProvisioningNotStarted ConditionReason = "ProvisioningNotStarted"
	// ReasonProvisioningFailed means that the work failed and is tried again.
	ReasonProvisioningFailed ConditionReason = "ProvisioningFailed"
	// ReasonProvisioningFailedTerminally means that the work failed and is not tried again until the spec changes.
	ReasonProvisioningFailedTerminally ConditionReason = "ProvisioningFailedTerminally"
	// ReasonWaitingForFirstConsumer means that the storage wants to know the machine's node. The user makes a machine
	// with the disk.
	ReasonWaitingForFirstConsumer ConditionReason = "WaitingForFirstConsumer"
	// ReasonDatasourceIsNotReady means that the source is not ready; ConditionDatasourceReady says why.
	ReasonDatasourceIsNotReady ConditionReason = "DatasourceIsNotReady"
	// ReasonDatasourceIsNotFound means that the source is missing; ConditionDatasourceReady says which.
	ReasonDatasourceIsNotFound ConditionReason = "DatasourceIsNotFound"
	// ReasonStorageClassIsNotReady means that the storage class cannot be used; ConditionStorageClassReady says why.
	ReasonStorageClassIsNotReady ConditionReason = "StorageClassIsNotReady"
	// ReasonInsufficientPVCSize means that spec.persistentVolumeClaim.size is smaller than the source. The message
	// names the size that is needed.
	ReasonInsufficientPVCSize ConditionReason = "InsufficientPVCSize"
	// ReasonQuotaExceeded means that the quota of the namespace leaves no room.
	ReasonQuotaExceeded ConditionReason = "QuotaExceeded"
	// ReasonImagePullFailed means that a node cannot fetch the image of a helper pod. The administrator has to act.
	ReasonImagePullFailed ConditionReason = "ImagePullFailed"
	// ReasonRegistryFull means that the module's registry has no room. The administrator enlarges its storage.
	ReasonRegistryFull ConditionReason = "RegistryFull"
	// ReasonRegistryUnavailable means that the module's registry does not answer.
	ReasonRegistryUnavailable ConditionReason = "RegistryUnavailable"
	// ReasonImageLost means that a finished image has vanished from the module's registry.
	ReasonImageLost ConditionReason = "ImageLost"
	// ReasonPVCLost means that the volume of a finished disk or image has vanished.
	ReasonPVCLost ConditionReason = "PVCLost"
)

// Reasons of ConditionStorageClassReady.
const (
	// ReasonStorageClassReady means that the storage class can be used.
	ReasonStorageClassReady ConditionReason = "StorageClassReady"
	// ReasonStorageClassNotFound means that the storage class is missing, or that none is named and there is no default.
	ReasonStorageClassNotFound ConditionReason = "StorageClassNotFound"
	// ReasonStorageClassNotAllowed means that the module's settings do not allow the storage class.
	ReasonStorageClassNotAllowed ConditionReason = "StorageClassNotAllowed"
	// ReasonDVCRTypeUsed means that the image is kept in the module's registry and needs no storage class.
	ReasonDVCRTypeUsed ConditionReason = "DVCRTypeUsed"
)

// Reasons of ConditionInUse, ConditionResizing and ConditionMigrating of VirtualDisk.
const (
	// ReasonUsedForImageCreation means that an image is being made from the disk.
	ReasonUsedForImageCreation ConditionReason = "UsedForImageCreation"
	// ReasonResizingInProgress means that the volume is being enlarged.
	ReasonResizingInProgress ConditionReason = "InProgress"
	// ReasonResizingNotAvailable means that the storage class does not allow volumes to grow.
	ReasonResizingNotAvailable ConditionReason = "NotAvailable"
	// ReasonResizingNotRequested means that the volume has the size that is asked for.
	ReasonResizingNotRequested ConditionReason = "NotRequested"
)

// Reasons of ConditionReady of VirtualMachine. A machine that is off because its run policy says so is ready.
const (
	// ReasonStopped means that the machine is off and is meant to be.
	ReasonStopped ConditionReason = "Stopped"
	// ReasonDependenciesNotReady means that the machine waits for something that another condition tells about.
	ReasonDependenciesNotReady ConditionReason = "DependenciesNotReady"
	// ReasonStarting means that the guest is being started.
	ReasonStarting ConditionReason = "Starting"
	// ReasonStopping means that the guest is shutting down.
	ReasonStopping ConditionReason = "Stopping"
	// ReasonPaused means that the guest is frozen in memory.
	ReasonPaused ConditionReason = "Paused"
)

// Reasons of the dependencies of VirtualMachine.
const (
	// ReasonVirtualMachineClassReady means that the class can be used.
	ReasonVirtualMachineClassReady ConditionReason = "VirtualMachineClassReady"
	// ReasonVirtualMachineClassNotReady means that the class is missing or has no nodes.
	ReasonVirtualMachineClassNotReady ConditionReason = "VirtualMachineClassNotReady"
	// ReasonVirtualMachineIPAddressReady means that the machine holds its address.
	ReasonVirtualMachineIPAddressReady ConditionReason = "VirtualMachineIPAddressReady"
	// ReasonVirtualMachineIPAddressNotReady means that the address claim is missing or holds no address yet.
	ReasonVirtualMachineIPAddressNotReady ConditionReason = "VirtualMachineIPAddressNotReady"
	// ReasonVirtualMachineIPAddressNotAssigned means that the guest's network card does not show the address.
	ReasonVirtualMachineIPAddressNotAssigned ConditionReason = "VirtualMachineIPAddressNotAssigned"
	// ReasonVirtualMachineIPAddressNotAvailable means that another machine uses the address claim.
	ReasonVirtualMachineIPAddressNotAvailable ConditionReason = "VirtualMachineIPAddressNotAvailable"
	// ReasonBlockDevicesReady means that all block devices can be attached.
	ReasonBlockDevicesReady ConditionReason = "BlockDevicesReady"
	// ReasonBlockDevicesNotReady means that a block device is missing or not ready. The message names it.
	ReasonBlockDevicesNotReady ConditionReason = "BlockDevicesNotReady"
	// ReasonWaitingForWaitForFirstConsumerBlockDevices means that a disk waits for the machine's node; the machine is
	// started to tell it.
	ReasonWaitingForWaitForFirstConsumerBlockDevices ConditionReason = "WaitingForWaitForFirstConsumerBlockDevicesToBeReady"
	// ReasonProvisioningReady means that the data for the first boot can be used.
	ReasonProvisioningReady ConditionReason = "ProvisioningReady"
	// ReasonProvisioningReadyWithWarnings means that the data for the first boot is used although it looks wrong.
	ReasonProvisioningReadyWithWarnings ConditionReason = "ProvisioningReadyWithWarnings"
	// ReasonProvisioningNotReady means that the Secret for the first boot is missing, or of another type, or lacks a key.
	ReasonProvisioningNotReady ConditionReason = "ProvisioningNotReady"
	// ReasonSizingPolicyNotMatched means that the class does not allow the machine's size. The message names what is.
	ReasonSizingPolicyNotMatched ConditionReason = "SizingPolicyNotMatched"
	// ReasonVirtualMachineClassNotFound means that the class is missing.
	ReasonVirtualMachineClassNotFound ConditionReason = "VirtualMachineClassNotFound"
)

// Reasons of ConditionRunning.
const (
	// ReasonRunning means that the guest runs.
	ReasonRunning ConditionReason = "Running"
	// ReasonNotRunning means that the guest does not run and nothing is wrong with that.
	ReasonNotRunning ConditionReason = "NotRunning"
	// ReasonInternalVirtualMachineError means that the engine could not start the guest. The message is the engine's.
	ReasonInternalVirtualMachineError ConditionReason = "InternalVirtualMachineError"
	// ReasonPodNotStarted means that the guest's pod does not start. The message says why, as the nodes tell it.
	ReasonPodNotStarted ConditionReason = "PodNotStarted"
	// ReasonPodTerminating means that the guest's pod is ending.
	ReasonPodTerminating ConditionReason = "PodTerminating"
	// ReasonGuestNotRunning means that the guest's pod runs and the guest in it does not.
	ReasonGuestNotRunning ConditionReason = "GuestNotRunning"
	// ReasonNodeNotReady means that the guest's node does not answer, so that nobody knows what becomes of the guest. The
	// administrator brings the node back, or tells the cluster that it is off for good.
	ReasonNodeNotReady ConditionReason = "NodeNotReady"
)

// Reasons of what VirtualMachine tells about a running guest.
const (
	// ReasonAgentReady means that the agent in the guest answers.
	ReasonAgentReady ConditionReason = "AgentReady"
	// ReasonAgentNotReady means that the agent in the guest does not answer; it may not be installed.
	ReasonAgentNotReady ConditionReason = "AgentNotReady"
	// ReasonAgentVersionNotSupported means that the agent in the guest is too old.
	ReasonAgentVersionNotSupported ConditionReason = "AgentVersionNotSupported"
	// ReasonConfigurationNotApplied means that a change of the spec could not be applied. The message says why.
	ReasonConfigurationNotApplied ConditionReason = "ConfigurationNotApplied"
	// ReasonChangesPendingRestart means that changes in status.restartAwaitingChanges wait for a restart.
	ReasonChangesPendingRestart ConditionReason = "ChangesPendingRestart"
	// ReasonUnexpectedState means that it cannot be told what the running guest was started with.
	ReasonUnexpectedState ConditionReason = "UnexpectedState"
	// ReasonFirmwareOutOfDate means that a restart or a migration would give the guest a newer emulator.
	ReasonFirmwareOutOfDate ConditionReason = "FirmwareOutOfDate"
	// ReasonFrozen means that the guest's file systems are frozen.
	ReasonFrozen ConditionReason = "Frozen"
	// ReasonEvictionRequired means that the guest's node is being emptied.
	ReasonEvictionRequired ConditionReason = "EvictionRequired"
)

// Reasons of ConditionMigratable and ConditionMigrating of VirtualMachine.
const (
	// ReasonVirtualMachineMigratable means that the guest can be moved.
	ReasonVirtualMachineMigratable ConditionReason = "VirtualMachineMigratable"
	// ReasonVirtualMachineNonMigratable means that the guest cannot be moved. The message says why.
	ReasonVirtualMachineNonMigratable ConditionReason = "VirtualMachineNonMigratable"
	// ReasonVirtualMachineDisksNotMigratable means that a disk cannot be reached from two nodes.
	ReasonVirtualMachineDisksNotMigratable ConditionReason = "VirtualMachineDisksNotMigratable"
	// ReasonVirtualMachineHostDevicesNotMigratable means that the guest uses a device of its node.
	ReasonVirtualMachineHostDevicesNotMigratable ConditionReason = "VirtualMachineHostDevicesNotMigratable"
	// ReasonMigratingPending means that the migration was asked for and nothing was done yet.
	ReasonMigratingPending ConditionReason = "Pending"
	// ReasonReadyToMigrate means that everything is prepared and the migration can begin.
	ReasonReadyToMigrate ConditionReason = "ReadyToMigrate"
	// ReasonMigratingInProgress means that the guest is being moved.
	ReasonMigratingInProgress ConditionReason = "InProgress"
)

// Reasons of VirtualMachineClass.
const (
	// ReasonSuitableNodesFound means that status.availableNodes can run machines of the class.
	ReasonSuitableNodesFound ConditionReason = "SuitableNodesFound"
	// ReasonNoSuitableNodesFound means that no node has the processor and the labels that the class asks for.
	ReasonNoSuitableNodesFound ConditionReason = "NoSuitableNodesFound"
	// ReasonNodeSelectorInvalid means that spec.nodeSelector or spec.cpu.discovery.nodeSelector cannot be read. The
	// administrator corrects it.
	ReasonNodeSelectorInvalid ConditionReason = "NodeSelectorInvalid"
	// ReasonSizingPoliciesInvalid means that spec.sizingPolicies contradict each other or themselves. The administrator
	// corrects them.
	ReasonSizingPoliciesInvalid ConditionReason = "SizingPoliciesInvalid"
	// ReasonNoCPUFeaturesEnabled means that the chosen nodes share no processor features.
	ReasonNoCPUFeaturesEnabled ConditionReason = "NoCpuFeaturesEnabled"
	// ReasonDiscoverySucceeded means that the shared processor features are in status.cpuFeatures.
	ReasonDiscoverySucceeded ConditionReason = "DiscoverySucceeded"
	// ReasonDiscoverySkip means that the class's cpu.type needs no discovery.
	ReasonDiscoverySkip ConditionReason = "DiscoverySkip"
	// ReasonDiscoveryFailed means that cpu.discovery.nodeSelector chooses no node with known features.
	ReasonDiscoveryFailed ConditionReason = "DiscoveryFailed"
	// ReasonVirtualMachineClassInUse means that machines name the class. The message lists some of them.
	ReasonVirtualMachineClassInUse ConditionReason = "VirtualMachineClassInUse"
)

// Reasons of VirtualMachineBlockDeviceAttachment.
const (
	// ReasonBlockDeviceReady means that the device can be attached.
	ReasonBlockDeviceReady ConditionReason = "BlockDeviceReady"
	// ReasonBlockDeviceNotReady means that the device is missing or not ready.
	ReasonBlockDeviceNotReady ConditionReason = "BlockDeviceNotReady"
	// ReasonVirtualMachineReady means that the machine can take the device.
	ReasonVirtualMachineReady ConditionReason = "VirtualMachineReady"
	// ReasonVirtualMachineNotReady means that the machine is missing or does not run.
	ReasonVirtualMachineNotReady ConditionReason = "VirtualMachineNotReady"
	// ReasonAttached means that the guest has the device; of an address claim, that a machine uses the address.
	ReasonAttached ConditionReason = "Attached"
	// ReasonNotAttached means that the guest does not have the device. The message says why.
	ReasonNotAttached ConditionReason = "NotAttached"
	// ReasonAttachmentRequestSent means that the engine was asked to plug the device in.
	ReasonAttachmentRequestSent ConditionReason = "AttachmentRequestSent"
	// ReasonConflict means that the machine already has the device from its spec or from an older attachment.
	ReasonConflict ConditionReason = "Conflict"
	// ReasonDeviceNotAvailableOnNode means that the device cannot be reached from the guest's node.
	ReasonDeviceNotAvailableOnNode ConditionReason = "DeviceNotAvailableOnNode"
	// ReasonCapacityAvailable means that the machine has room for the device.
	ReasonCapacityAvailable ConditionReason = "CapacityAvailable"
	// ReasonCapacityReached means that the machine has 16 block devices already.
	ReasonCapacityReached ConditionReason = "CapacityReached"
	// ReasonCapacityUnknown means that the machine's block devices cannot be counted yet.
	ReasonCapacityUnknown ConditionReason = "CapacityUnknown"
	// ReasonDetachPending means that the device is being unplugged.
	ReasonDetachPending ConditionReason = "DetachPending"
)

// Reasons of VirtualMachineOperation.
const (
	// ReasonCompleted means that the operation ended well.
	ReasonCompleted ConditionReason = "Completed"
	// ReasonFailed means that the operation ended without its effect. The message says why.
	ReasonFailed ConditionReason = "Failed"
	// ReasonAborted means that the operation was cancelled.
	ReasonAborted ConditionReason = "Aborted"
	// ReasonSuperseded means that a later operation has taken the place of this one.
	ReasonSuperseded ConditionReason = "Superseded"
	// ReasonVirtualMachineNotFound means that the machine is missing.
	ReasonVirtualMachineNotFound ConditionReason = "VirtualMachineNotFound"
	// ReasonNotApplicableForRunPolicy means that the machine's run policy leaves no room for the operation.
	ReasonNotApplicableForRunPolicy ConditionReason = "NotApplicableForVirtualMachineRunPolicy"
	// ReasonNotApplicableForPhase means that the operation makes no sense in the machine's phase.
	ReasonNotApplicableForPhase ConditionReason = "NotApplicableForVirtualMachinePhase"
	// ReasonNotApplicableForLiveMigrationPolicy means that the machine's liveMigrationPolicy rules out what the
	// operation's force asks for.
	ReasonNotApplicableForLiveMigrationPolicy ConditionReason = "NotApplicableForLiveMigrationPolicy"
	// ReasonOperationTypeNotSupported means that this release cannot carry out operations of this type.
	ReasonOperationTypeNotSupported ConditionReason = "OperationTypeNotSupported"
	// ReasonOtherOperationInProgress means that an older operation of the same machine comes first. The message names it.
	ReasonOtherOperationInProgress ConditionReason = "OtherOperationInProgress"
	// ReasonStartInProgress means that the machine is being powered on.
	ReasonStartInProgress ConditionReason = "StartInProgress"
	// ReasonStopInProgress means that the operation waits until the guest has shut down.
	ReasonStopInProgress ConditionReason = "StopInProgress"
	// ReasonRestartInProgress means that the guest is being shut down and started again.
	ReasonRestartInProgress ConditionReason = "RestartInProgress"
	// ReasonSignalSentSuccess means that the order was handed to the machine.
	ReasonSignalSentSuccess ConditionReason = "SignalSentSuccess"
	// ReasonSignalSentError means that the order could not be handed to the machine.
	ReasonSignalSentError ConditionReason = "SignalSentError"
	// ReasonOtherMigrationInProgress means that the machine is already being moved.
	ReasonOtherMigrationInProgress ConditionReason = "OtherMigrationInProgress"
	// ReasonWaitingForVirtualMachineToBeReadyToMigrate means that the machine has to get ready before it is moved.
	ReasonWaitingForVirtualMachineToBeReadyToMigrate ConditionReason = "WaitingForVirtualMachineToBeReadyToMigrate"
	// ReasonHotplugDisksNotShared means that a plugged-in disk cannot be reached from two nodes.
	ReasonHotplugDisksNotShared ConditionReason = "HotplugDisksNotShared"
	// ReasonMigrationPending means that the migration waits for its turn.
	ReasonMigrationPending ConditionReason = "MigrationPending"
	// ReasonTargetScheduling means that a node to move to is being looked for.
	ReasonTargetScheduling ConditionReason = "TargetScheduling"
	// ReasonTargetUnschedulable means that no node can take the guest. The message says why.
	ReasonTargetUnschedulable ConditionReason = "TargetUnschedulable"
	// ReasonTargetPreparing means that the other node is being prepared.
	ReasonTargetPreparing ConditionReason = "TargetPreparing"
	// ReasonWaitingForSyncSlot means that too many migrations run at once.
	ReasonWaitingForSyncSlot ConditionReason = "WaitingForSyncSlot"
	// ReasonSyncing means that memory is being copied.
	ReasonSyncing ConditionReason = "Syncing"
	// ReasonNotConverging means that the guest changes its memory faster than it can be copied. The user may force
	// the migration.
	ReasonNotConverging ConditionReason = "NotConverging"
	// ReasonSourceSuspended means that the guest stands still for the last part of the copy.
	ReasonSourceSuspended ConditionReason = "SourceSuspended"
	// ReasonTargetResumed means that the guest runs on the other node and the old one is being cleaned up.
	ReasonTargetResumed ConditionReason = "TargetResumed"
)

// Reasons of VirtualMachineIPAddress and VirtualMachineIPAddressLease.
const (
	// ReasonBound means that the claim holds the address.
	ReasonBound ConditionReason = "Bound"
	// ReasonReleased means that no claim holds the lease.
	ReasonReleased ConditionReason = "Released"
	// ReasonIPAddressOutOfRange means that spec.staticIP lies outside the module's virtualMachineCIDRs.
	ReasonIPAddressOutOfRange ConditionReason = "VirtualMachineIPAddressIsOutOfTheValidRange"
	// ReasonNoFreeIPAddress means that all addresses of virtualMachineCIDRs are taken. The administrator adds a range.
	ReasonNoFreeIPAddress ConditionReason = "NoFreeVirtualMachineIPAddress"
	// ReasonLeaseAlreadyExists means that another claim holds the address.
	ReasonLeaseAlreadyExists ConditionReason = "VirtualMachineIPAddressLeaseAlreadyExists"
	// ReasonLeaseLost means that the lease was deleted behind the claim's back.
	ReasonLeaseLost ConditionReason = "VirtualMachineIPAddressLeaseLost"
	// ReasonLeaseNotReady means that the lease is not bound yet.
	ReasonLeaseNotReady ConditionReason = "VirtualMachineIPAddressLeaseNotReady"
)
