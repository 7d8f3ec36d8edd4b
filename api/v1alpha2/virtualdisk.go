// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// DiskPhase is a summary of a disk's conditions for people.
type DiskPhase string

const (
	// DiskPending means that something the disk depends on is missing.
	DiskPending DiskPhase = "Pending"
	// DiskProvisioning means that the volume is being made and filled.
	DiskProvisioning DiskPhase = "Provisioning"
	// DiskWaitForUserUpload means that the upload address is open and nothing came yet.
	DiskWaitForUserUpload DiskPhase = "WaitForUserUpload"
	// DiskWaitForFirstConsumer means that the storage wants to know the machine's node before it makes the volume.
	DiskWaitForFirstConsumer DiskPhase = "WaitForFirstConsumer"
	// DiskReady means that the disk can be used.
	DiskReady DiskPhase = "Ready"
	// DiskResizing means that the volume is being enlarged; the disk stays usable.
	DiskResizing DiskPhase = "Resizing"
	// DiskFailed means that the disk will not become ready until its spec or its source is corrected.
	DiskFailed DiskPhase = "Failed"
	// DiskPVCLost means that the volume of a finished disk has vanished.
	DiskPVCLost DiskPhase = "PVCLost"
	// DiskExporting means that the content is being downloaded by a user.
	DiskExporting DiskPhase = "Exporting"
	// DiskTerminating means that the disk is being deleted.
	DiskTerminating DiskPhase = "Terminating"
	// DiskMigrating means that the content is being moved to another volume while the machine runs.
	DiskMigrating DiskPhase = "Migrating"
)

// VirtualDisk is a writable disk of a machine: blank, or filled from an image, a download or an upload. It outlives
// the machines that it is attached to.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,singular=virtualdisk,shortName=vd,categories=virtualization
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Capacity",type=string,JSONPath=`.status.capacity`
// +kubebuilder:printcolumn:name="InUse",type=string,priority=1,JSONPath=`.status.conditions[?(@.type=='InUse')].status`
// +kubebuilder:printcolumn:name="VirtualMachine",type=string,JSONPath=`.status.attachedToVirtualMachines[?(@.mounted==true)].name`
// +kubebuilder:printcolumn:name="Progress",type=string,priority=1,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name="StorageClass",type=string,priority=1,JSONPath=`.status.storageClassName`
// +kubebuilder:printcolumn:name="TargetPVC",type=string,priority=1,JSONPath=`.status.target.persistentVolumeClaimName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || !self.metadata.name.contains('.')",message="metadata.name must not contain dots: rename the disk, for example with dashes",optionalOldSelf=true
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in ['Ready', 'Resizing', 'Migrating', 'Exporting', 'PVCLost']) || !(has(oldSelf.spec.persistentVolumeClaim) && has(oldSelf.spec.persistentVolumeClaim.size)) || (has(self.spec.persistentVolumeClaim) && has(self.spec.persistentVolumeClaim.size) && quantity(string(self.spec.persistentVolumeClaim.size)).compareTo(quantity(string(oldSelf.spec.persistentVolumeClaim.size))) >= 0)",message="the size of a finished disk cannot be lowered or removed: keep it or raise it",fieldPath=".spec.persistentVolumeClaim.size"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in ['Ready', 'Resizing', 'Migrating', 'Exporting', 'PVCLost']) || (has(oldSelf.spec.persistentVolumeClaim) && has(oldSelf.spec.persistentVolumeClaim.size)) || !(has(self.spec.persistentVolumeClaim) && has(self.spec.persistentVolumeClaim.size)) || !has(oldSelf.status.capacity) || !isQuantity(oldSelf.status.capacity) || quantity(string(self.spec.persistentVolumeClaim.size)).compareTo(quantity(oldSelf.status.capacity)) >= 0",message="the size of a finished disk cannot be lower than status.capacity",fieldPath=".spec.persistentVolumeClaim.size"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase == 'Migrating') || (has(self.spec.persistentVolumeClaim) && has(self.spec.persistentVolumeClaim.size)) == (has(oldSelf.spec.persistentVolumeClaim) && has(oldSelf.spec.persistentVolumeClaim.size)) && (!(has(self.spec.persistentVolumeClaim) && has(self.spec.persistentVolumeClaim.size)) || quantity(string(self.spec.persistentVolumeClaim.size)).compareTo(quantity(string(oldSelf.spec.persistentVolumeClaim.size))) == 0)",message="the size cannot be changed while the disk is moved to another volume: wait until the phase is Ready",fieldPath=".spec.persistentVolumeClaim.size"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase in ['Ready', 'Resizing', 'Migrating', 'Exporting', 'PVCLost']) || has(self.spec.dataSource) == has(oldSelf.spec.dataSource) && (!has(self.spec.dataSource) || self.spec.dataSource == oldSelf.spec.dataSource)",message="the data source of a finished disk cannot be changed: delete the disk and make it again",fieldPath=".spec.dataSource"
// +kubebuilder:validation:XValidation:rule="!(has(oldSelf.status) && has(oldSelf.status.phase) && oldSelf.status.phase == 'Terminating') || self.spec == oldSelf.spec",message="the spec cannot be changed while the disk is being deleted",fieldPath=".spec"
type VirtualDisk struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants.
	// +required
	Spec VirtualDiskSpec `json:"spec"`

	// status is what the platform has made of it.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0}
	Status VirtualDiskStatus `json:"status,omitempty"`
}

// VirtualDiskSpec is what the user wants of a disk.
// +kubebuilder:validation:XValidation:rule="has(self.dataSource) || (has(self.persistentVolumeClaim) && has(self.persistentVolumeClaim.size))",message="size must be set for a blank disk, for example 10Gi; or set dataSource",fieldPath=".persistentVolumeClaim.size"
type VirtualDiskSpec struct {
	// dataSource is what the disk is filled with. Without it the disk is blank and its size must be given.
	// +optional
	DataSource *VirtualDiskDataSource `json:"dataSource,omitempty"`

	// persistentVolumeClaim sets the volume that holds the disk.
	// +optional
	PersistentVolumeClaim VirtualDiskPersistentVolumeClaim `json:"persistentVolumeClaim,omitempty"`
}

// VirtualDiskPersistentVolumeClaim sets the volume of a disk.
type VirtualDiskPersistentVolumeClaim struct {
	// storageClassName is the storage class of the volume. If it is not set, the default of the module's settings
	// is taken, then the default of the cluster. On a finished disk a change has no effect, because this version does not
	// move the content; StorageClassReady says so.
	// +optional
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`

	// size is the size of the disk, for example 10Gi. If it is not set, the size of the source is taken; a blank disk
	// needs it. It may be raised at any time, also while the machine runs, and never lowered once the disk is made.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0'))",message="size must be greater than zero, for example 10Gi"
	Size *resource.Quantity `json:"size,omitempty"`
}

// VirtualDiskDataSource is what a disk is filled with: the type and the one member that belongs to it.
// +kubebuilder:validation:XValidation:rule="has(self.http) == (self.type == 'HTTP')",message="http must be set when type is HTTP, and only then",fieldPath=".http"
// +kubebuilder:validation:XValidation:rule="has(self.containerImage) == (self.type == 'ContainerImage')",message="containerImage must be set when type is ContainerImage, and only then",fieldPath=".containerImage"
// +kubebuilder:validation:XValidation:rule="has(self.objectRef) == (self.type == 'ObjectRef')",message="objectRef must be set when type is ObjectRef, and only then",fieldPath=".objectRef"
// +kubebuilder:validation:XValidation:rule="!has(self.upload) || self.type == 'Upload'",message="upload may be set only when type is Upload",fieldPath=".upload"
type VirtualDiskDataSource struct {
	// type chooses the source; the member that belongs to it must be set (upload may be left out) and no other.
	// +required
	Type DataSourceType `json:"type"`

	// http is the file to download when type is HTTP.
	// +optional
	HTTP *HTTPSource `json:"http,omitempty"`

	// containerImage is the container image to read when type is ContainerImage.
	// +optional
	ContainerImage *ContainerImageSource `json:"containerImage,omitempty"`

	// objectRef is the image to copy when type is ObjectRef.
	// +optional
	ObjectRef *VirtualDiskObjectRef `json:"objectRef,omitempty"`

	// upload refines the upload when type is Upload; the address to upload to appears in status.imageUploadURLs.
	// +optional
	Upload *UploadSource `json:"upload,omitempty"`
}

// VirtualDiskObjectRef names the image that a disk is made from.
type VirtualDiskObjectRef struct {
	// kind is the kind of the source.
	// +required
	// +kubebuilder:validation:Enum=ClusterVirtualImage;VirtualImage
	Kind string `json:"kind"`

	// name is the name of the source; a VirtualImage is looked up in the namespace of this object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// VirtualDiskStatus is what the platform has made of a disk.
type VirtualDiskStatus struct {
	// conditions tell step by step what the disk waits for, why, and who has to act. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Provisioning;WaitForUserUpload;WaitForFirstConsumer;Ready;Resizing;Failed;PVCLost;Exporting;Terminating;Migrating
	Phase DiskPhase `json:"phase,omitempty"`

	// progress is the share of the work that is done, from 0% to 100%; empty before it begins.
	// +optional
	Progress string `json:"progress,omitempty"`

	// capacity is the size of the disk that the guest sees, for example 10Gi.
	// +optional
	Capacity string `json:"capacity,omitempty"`

	// storageClassName is the storage class that was chosen for the volume.
	// +optional
	StorageClassName string `json:"storageClassName,omitempty"`

	// target is the volume that holds the disk.
	// +optional
	Target VirtualDiskTarget `json:"target,omitempty"`

	// attachedToVirtualMachines lists the machines that name the disk, sorted by name.
	// +optional
	// +listType=map
	// +listMapKey=name
	AttachedToVirtualMachines []AttachedVirtualMachine `json:"attachedToVirtualMachines,omitempty"`

	// downloadSpeed shows how fast the source is being fetched.
	// +optional
	DownloadSpeed *DownloadSpeed `json:"downloadSpeed,omitempty"`

	// imageUploadURLs are the addresses to upload to when the data source is Upload.
	// +optional
	ImageUploadURLs *UploadURLs `json:"imageUploadURLs,omitempty"`

	// uploadCommand is a ready command line for the upload. Deprecated: use imageUploadURLs.
	// +optional
	UploadCommand string `json:"uploadCommand,omitempty"`

	// sourceUID is the uid of the image that the disk was made from.
	// +optional
	SourceUID string `json:"sourceUID,omitempty"`

	// stats tells how long the steps took.
	// +optional
	Stats VirtualDiskStats `json:"stats,omitempty"`

	// migrationState describes the last move of the content to another volume; this version makes none.
	// +optional
	MigrationState *VirtualDiskMigrationState `json:"migrationState,omitempty"`
}

// VirtualDiskTarget is the volume that holds a disk.
type VirtualDiskTarget struct {
	// persistentVolumeClaimName is the claim of the volume, in the namespace of the disk.
	// +optional
	PersistentVolumeClaimName string `json:"persistentVolumeClaimName,omitempty"`
}

// AttachedVirtualMachine is a machine that names a disk.
type AttachedVirtualMachine struct {
	// name is the name of the machine.
	// +required
	Name string `json:"name"`

	// mounted tells that the machine holds the disk now. At most one machine does.
	// +optional
	Mounted bool `json:"mounted,omitempty"`
}

// VirtualDiskStats tells how long the steps of a disk took.
type VirtualDiskStats struct {
	// creationDuration tells how long the disk took to become ready.
	// +optional
	CreationDuration VirtualDiskCreationDuration `json:"creationDuration,omitempty"`
}

// VirtualDiskCreationDuration tells how long a disk took to become ready.
type VirtualDiskCreationDuration struct {
	// waitingForDependencies is the time spent on waiting for the source and the storage class, for example 1m30s.
	// +optional
	// +nullable
	WaitingForDependencies *metav1.Duration `json:"waitingForDependencies,omitempty"`

	// waitingForFirstConsumer is the time spent on waiting for a machine that shows which node to use.
	// +optional
	// +nullable
	WaitingForFirstConsumer *metav1.Duration `json:"waitingForFirstConsumer,omitempty"`

	// dvcrProvisioning is the time spent on fetching the source into the module's registry.
	// +optional
	// +nullable
	DVCRProvisioning *metav1.Duration `json:"dvcrProvisioning,omitempty"`

	// totalProvisioning is the time from the creation of the disk until it was ready.
	// +optional
	// +nullable
	TotalProvisioning *metav1.Duration `json:"totalProvisioning,omitempty"`
}

// VirtualDiskMigrationState describes a move of a disk's content to another volume.
type VirtualDiskMigrationState struct {
	// sourcePVC is the claim that the content is moved from.
	// +optional
	SourcePVC string `json:"sourcePVC,omitempty"`

	// targetPVC is the claim that the content is moved to.
	// +optional
	TargetPVC string `json:"targetPVC,omitempty"`

	// result tells how the move ended; empty while it runs.
	// +optional
	// +kubebuilder:validation:Enum=Succeeded;Failed
	Result MigrationResult `json:"result,omitempty"`

	// message says more about the result.
	// +optional
	Message string `json:"message,omitempty"`

	// startTimestamp is when the move began.
	// +optional
	StartTimestamp *metav1.Time `json:"startTimestamp,omitempty"`

	// endTimestamp is when the move ended.
	// +optional
	EndTimestamp *metav1.Time `json:"endTimestamp,omitempty"`
}

// MigrationResult tells how a migration ended.
type MigrationResult string

const (
	// MigrationSucceeded means that the migration ended well.
	MigrationSucceeded MigrationResult = "Succeeded"
	// MigrationFailed means that everything stays where it was.
	MigrationFailed MigrationResult = "Failed"
)

// VirtualDiskList is a list of disks.
// +kubebuilder:object:root=true
type VirtualDiskList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualDisk `json:"items"`
}
