// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// AttachmentPhase is a summary of an attachment's conditions for people.
type AttachmentPhase string

const (
	// AttachmentPending means that the machine or the device is not ready.
	AttachmentPending AttachmentPhase = "Pending"
	// AttachmentInProgress means that the device is being plugged in.
	AttachmentInProgress AttachmentPhase = "InProgress"
	// AttachmentAttached means that the guest has the device.
	AttachmentAttached AttachmentPhase = "Attached"
	// AttachmentFailed means that the device cannot be plugged in until something is corrected.
	AttachmentFailed AttachmentPhase = "Failed"
	// AttachmentTerminating means that the device is being unplugged.
	AttachmentTerminating AttachmentPhase = "Terminating"
)

// VirtualMachineBlockDeviceAttachment plugs a disk or an image into a machine without a restart. Deleting it unplugs
// the device again.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,singular=virtualmachineblockdeviceattachment,shortName=vmbda,categories=virtualization
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:printcolumn:name="PHASE",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="BLOCKDEVICE KIND",type=string,priority=1,JSONPath=`.spec.blockDeviceRef.kind`
// +kubebuilder:printcolumn:name="BLOCKDEVICE NAME",type=string,priority=1,JSONPath=`.spec.blockDeviceRef.name`
// +kubebuilder:printcolumn:name="VIRTUALMACHINE",type=string,JSONPath=`.status.virtualMachineName`
// +kubebuilder:printcolumn:name="AGE",type=date,JSONPath=`.metadata.creationTimestamp`
type VirtualMachineBlockDeviceAttachment struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants. It cannot be changed: make another attachment instead.
	// +required
	Spec VirtualMachineBlockDeviceAttachmentSpec `json:"spec"`

	// status is what the platform has made of it.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0}
	Status VirtualMachineBlockDeviceAttachmentStatus `json:"status,omitempty"`
}

// VirtualMachineBlockDeviceAttachmentSpec is what the user wants of an attachment.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec cannot be changed: delete the attachment and make another"
type VirtualMachineBlockDeviceAttachmentSpec struct {
	// virtualMachineName is the machine that gets the device, in the same namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	VirtualMachineName string `json:"virtualMachineName"`

	// blockDeviceRef names the device.
	// +required
	BlockDeviceRef AttachmentBlockDeviceRef `json:"blockDeviceRef"`
}

// AttachmentBlockDeviceRef names the device of an attachment.
type AttachmentBlockDeviceRef struct {
	// kind is the kind of the device. Images are attached read-only.
	// +required
	// +kubebuilder:validation:Enum=VirtualDisk;VirtualImage;ClusterVirtualImage
	Kind BlockDeviceKind `json:"kind"`

	// name is the name of the device; a VirtualImage or a VirtualDisk is looked up in the same namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// VirtualMachineBlockDeviceAttachmentStatus is what the platform has made of an attachment.
type VirtualMachineBlockDeviceAttachmentStatus struct {
	// conditions tell what the attachment waits for, why, and who has to act. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Pending;InProgress;Attached;Failed;Terminating
	Phase AttachmentPhase `json:"phase,omitempty"`

	// virtualMachineName is the machine that has the device.
	// +optional
	VirtualMachineName string `json:"virtualMachineName,omitempty"`
}

// VirtualMachineBlockDeviceAttachmentList is a list of attachments.
// +kubebuilder:object:root=true
type VirtualMachineBlockDeviceAttachmentList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualMachineBlockDeviceAttachment `json:"items"`
}
