// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// OperationType says what is to be done with a machine.
// +kubebuilder:validation:Enum=Restart;Start;Stop;Migrate;Evict;Clone
type OperationType string

const (
	// OperationStart powers the machine on.
	OperationStart OperationType = "Start"
	// OperationStop shuts the guest down.
	OperationStop OperationType = "Stop"
	// OperationRestart shuts the guest down and powers the machine on again, which applies pending changes.
	OperationRestart OperationType = "Restart"
	// OperationMigrate moves the running guest to another node.
	OperationMigrate OperationType = "Migrate"
	// OperationEvict is the old name of OperationMigrate.
	OperationEvict OperationType = "Evict"
	// OperationClone makes a copy of the machine with its disks.
	OperationClone OperationType = "Clone"
)

// CloneMode says how strictly a clone checks before it begins.
// +kubebuilder:validation:Enum=DryRun;Strict;BestEffort
type CloneMode string

const (
	// CloneDryRun only checks and reports what would be made.
	CloneDryRun CloneMode = "DryRun"
	// CloneStrict makes the copy only if every part can be made.
	CloneStrict CloneMode = "Strict"
	// CloneBestEffort leaves out what cannot be made.
	CloneBestEffort CloneMode = "BestEffort"
)

// OperationPhase is a summary of an operation's conditions for people.
type OperationPhase string

const (
	// OperationPending means that the operation waits for its turn.
	OperationPending OperationPhase = "Pending"
	// OperationInProgress means that the operation is being carried out.
	OperationInProgress OperationPhase = "InProgress"
	// OperationCompleted means that the operation ended well.
	OperationCompleted OperationPhase = "Completed"
	// OperationFailed means that the operation ended without its effect.
	OperationFailed OperationPhase = "Failed"
	// OperationTerminating means that the operation is being cancelled.
	OperationTerminating OperationPhase = "Terminating"
	// OperationSuperseded means that a later operation has taken the place of this one.
	OperationSuperseded OperationPhase = "Superseded"
)

// ResourceOperationStatus tells how far an operation is with one object.
// +kubebuilder:validation:Enum=InProgress;Completed;Failed
type ResourceOperationStatus string

const (
	// ResourceOperationInProgress means that the object is being made.
	ResourceOperationInProgress ResourceOperationStatus = "InProgress"
	// ResourceOperationCompleted means that the object was made.
	ResourceOperationCompleted ResourceOperationStatus = "Completed"
	// ResourceOperationFailed means that the object could not be made.
	ResourceOperationFailed ResourceOperationStatus = "Failed"
)

// VirtualMachineOperation is a one-shot order to a machine. A finished operation is deleted after a day.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,singular=virtualmachineoperation,shortName=vmop,categories=virtualization
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Progress",type=string,JSONPath=`.status.progress`
// +kubebuilder:printcolumn:name="Type",type=string,JSONPath=`.spec.type`
// +kubebuilder:printcolumn:name="VirtualMachine",type=string,JSONPath=`.spec.virtualMachineName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type VirtualMachineOperation struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is the order. It cannot be changed: make another operation instead.
	// +required
	Spec VirtualMachineOperationSpec `json:"spec"`

	// status is what the platform has made of it.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0}
	Status VirtualMachineOperationStatus `json:"status,omitempty"`
}

// VirtualMachineOperationSpec is an order to a machine.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="the spec cannot be changed: make another operation"
// +kubebuilder:validation:XValidation:rule="self.type != 'Start' || !has(self.force) || !self.force",message="force cannot be used when type is Start",fieldPath=".force"
// +kubebuilder:validation:XValidation:rule="!has(self.migrate) || self.type in ['Migrate', 'Evict']",message="migrate may be set only when type is Migrate",fieldPath=".migrate"
// +kubebuilder:validation:XValidation:rule="has(self.clone) == (self.type == 'Clone')",message="clone must be set when type is Clone, and only then",fieldPath=".clone"
type VirtualMachineOperationSpec struct {
	// type says what is to be done. Start, Stop and Restart need a run policy that leaves room for them. Migrate moves
	// the running guest to another node; Evict is its old name. Clone, a copy of the machine with its disks, is refused
	// in this version.
	// +required
	Type OperationType `json:"type"`

	// virtualMachineName is the machine, in the same namespace.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	VirtualMachineName string `json:"virtualMachineName"`

	// force with Stop and Restart switches the guest off at once instead of shutting it down; with Migrate and Evict it
	// lets the migration slow the guest down, or forbids that when false; what the machine's liveMigrationPolicy rules
	// out is refused. It cannot be used with Start.
	// +optional
	Force *bool `json:"force,omitempty"`

	// migrate refines a migration when type is Migrate.
	// +optional
	Migrate *OperationMigrateSpec `json:"migrate,omitempty"`

	// clone says how to copy the machine when type is Clone.
	// +optional
	Clone *OperationCloneSpec `json:"clone,omitempty"`
}

// OperationMigrateSpec refines a migration.
type OperationMigrateSpec struct {
	// nodeSelector lists labels that the node to move to must have, in addition to those that the machine and its class
	// ask for.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
}

// OperationCloneSpec says how to copy a machine.
// +kubebuilder:validation:XValidation:rule="has(self.customization) || has(self.nameReplacement)",message="customization or nameReplacement must be set, because the copy cannot have the names of its source",fieldPath=".customization"
type OperationCloneSpec struct {
	// mode says how strictly to check. DryRun only reports what would be made. Strict makes the copy only if every part
	// can be made. BestEffort leaves out what cannot be made.
	// +required
	Mode CloneMode `json:"mode"`

	// customization changes the names of all objects of the copy.
	// +optional
	Customization *CloneCustomization `json:"customization,omitempty"`

	// nameReplacement changes the names of single objects of the copy.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.from.name == b.from.name && has(a.from.kind) == has(b.from.kind) && (!has(a.from.kind) || a.from.kind == b.from.kind)))",message="nameReplacement must not name a source twice"
	NameReplacement []NameReplacement `json:"nameReplacement,omitempty"`
}

// CloneCustomization changes the names of all objects of a copy.
// +kubebuilder:validation:XValidation:rule="(has(self.namePrefix) && size(self.namePrefix) > 0) || (has(self.nameSuffix) && size(self.nameSuffix) > 0)",message="namePrefix or nameSuffix must be set",fieldPath=".namePrefix"
// +kubebuilder:validation:XValidation:rule="(!has(self.namePrefix) || self.namePrefix.matches('^[a-z0-9-]*$')) && (!has(self.nameSuffix) || self.nameSuffix.matches('^[a-z0-9-]*$'))",message="namePrefix and nameSuffix may have lower-case letters, digits and dashes only"
type CloneCustomization struct {
	// namePrefix is put before every name.
	// +optional
	// +kubebuilder:validation:MaxLength=59
	NamePrefix string `json:"namePrefix,omitempty"`

	// nameSuffix is put after every name.
	// +optional
	// +kubebuilder:validation:MaxLength=59
	NameSuffix string `json:"nameSuffix,omitempty"`
}

// NameReplacement changes the name of an object of a copy.
type NameReplacement struct {
	// from chooses the object in the source.
	// +required
	From NameReplacementFrom `json:"from"`

	// to is the name in the copy.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	To string `json:"to"`
}

// NameReplacementFrom chooses an object whose name is changed.
type NameReplacementFrom struct {
	// kind is the kind of the object; without it, objects of every kind with that name.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=63
	Kind string `json:"kind,omitempty"`

	// name is the name of the object.
	// +required
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
}

// VirtualMachineOperationStatus is what the platform has made of an operation.
type VirtualMachineOperationStatus struct {
	// conditions tell what the operation waits for, why, and who has to act. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Pending;InProgress;Completed;Failed;Terminating;Superseded
	Phase OperationPhase `json:"phase,omitempty"`

	// progress is how far the operation is, from 0% to 100%.
	// +optional
	Progress string `json:"progress,omitempty"`

	// guestUID is the guest that a Stop or a Restart ends, by the engine's name for it. No other guest is touched,
	// whatever happens in the course of the operation.
	// +optional
	GuestUID types.UID `json:"guestUID,omitempty"`

	// resources lists the objects that the operation makes, and how far it is with each.
	// +optional
	// +listType=atomic
	Resources []OperationResource `json:"resources,omitempty"`
}

// OperationResource tells how far an operation is with one object.
type OperationResource struct {
	// apiVersion is the group and version of the object.
	// +required
	APIVersion string `json:"apiVersion"`

	// kind is the kind of the object.
	// +required
	Kind string `json:"kind"`

	// name is the name of the object.
	// +required
	Name string `json:"name"`

	// status tells how far the operation is with the object.
	// +required
	Status ResourceOperationStatus `json:"status"`

	// message says more about the status.
	// +required
	Message string `json:"message"`
}

// VirtualMachineOperationList is a list of operations.
// +kubebuilder:object:root=true
type VirtualMachineOperationList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualMachineOperation `json:"items"`
}
