// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// CPUType says which processor the guests of a class see.
// +kubebuilder:validation:Enum=Host;HostPassthrough;Discovery;Model;Features
type CPUType string

const (
	// CPUTypeHost gives guests a model close to the node's own processor.
	CPUTypeHost CPUType = "Host"
	// CPUTypeHostPassthrough gives guests the node's own processor.
	CPUTypeHostPassthrough CPUType = "HostPassthrough"
	// CPUTypeDiscovery gives guests the features that all chosen nodes share.
	CPUTypeDiscovery CPUType = "Discovery"
	// CPUTypeModel gives guests a named model.
	CPUTypeModel CPUType = "Model"
	// CPUTypeFeatures gives guests a list of features.
	CPUTypeFeatures CPUType = "Features"
)

// ClassPhase is a summary of a class's conditions for people.
type ClassPhase string

const (
	// ClassPending means that no node can run machines of the class yet.
	ClassPending ClassPhase = "Pending"
	// ClassReady means that machines of the class can be run.
	ClassReady ClassPhase = "Ready"
	// ClassTerminating means that the class is being deleted and waits for the machines that name it.
	ClassTerminating ClassPhase = "Terminating"
)

// VirtualMachineClass is what administrators offer machines to run on: the processor that guests see, the nodes, and
// the sizes that are allowed. The class with the annotation
// virtualmachineclass.virtualization.deckhouse.io/is-default-class: "true" is the default.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,singular=virtualmachineclass,shortName=vmc;vmclass,categories=virtualization-cluster
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:metadata:labels="backup.deckhouse.io/cluster-config=true"
// +kubebuilder:printcolumn:name="Phase",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="IsDefault",type=string,JSONPath=`.metadata.annotations.virtualmachineclass\.virtualization\.deckhouse\.io\/is-default-class`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type VirtualMachineClass struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the administrator offers.
	// +required
	Spec VirtualMachineClassSpec `json:"spec"`

	// status is what the platform has made of it.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0}
	Status VirtualMachineClassStatus `json:"status,omitempty"`
}

// VirtualMachineClassSpec is what an administrator offers.
type VirtualMachineClassSpec struct {
	// cpu is the processor that guests see. It cannot be changed: make another class instead.
	// +required
	CPU ClassCPU `json:"cpu"`

	// nodeSelector chooses the nodes that machines of the class may run on; without it, every node that can.
	// +optional
	NodeSelector NodeSelector `json:"nodeSelector,omitempty"`

	// tolerations lists node taints that machines of the class accept, in addition to their own.
	// +optional
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`

	// sizingPolicies lists the allowed sizes: each policy covers a range of cores, and the ranges do not overlap.
	// Without policies every size is allowed.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:XValidation:rule="self.all(a, self.exists_one(b, a.cores.min <= b.cores.max && b.cores.min <= a.cores.max))",message="the ranges of cores of two policies must not overlap"
	SizingPolicies []SizingPolicy `json:"sizingPolicies,omitempty"`
}

// ClassCPU is the processor that guests of a class see: the type and the one member that belongs to it.
// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="cpu cannot be changed: make another class and let machines name that"
// +kubebuilder:validation:XValidation:rule="has(self.model) == (self.type == 'Model')",message="model must be set when type is Model, and only then",fieldPath=".model"
// +kubebuilder:validation:XValidation:rule="has(self.features) == (self.type == 'Features')",message="features must be set when type is Features, and only then",fieldPath=".features"
// +kubebuilder:validation:XValidation:rule="!has(self.discovery) || self.type == 'Discovery'",message="discovery may be set only when type is Discovery",fieldPath=".discovery"
type ClassCPU struct {
	// type chooses the way. Host: a model close to the node's own, good performance, migration between like nodes.
	// HostPassthrough: the node's own processor, best performance, migration only between nodes of the same
	// processor. Discovery: the features shared by the nodes chosen in discovery, on top of the model Nehalem. Model:
	// the model named in model. Features: the features listed in features, on top of the model Nehalem.
	// +required
	Type CPUType `json:"type"`

	// model is the name of the processor model when type is Model, for example Nehalem or IvyBridge.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	Model string `json:"model,omitempty"`

	// features lists the processor features that a node must have and guests see when type is Features, for example
	// vmx.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=1024
	// +kubebuilder:validation:items:MaxLength=128
	Features []string `json:"features,omitempty"`

	// discovery chooses the nodes whose shared features guests see when type is Discovery.
	// +optional
	Discovery *CPUDiscovery `json:"discovery,omitempty"`
}

// CPUDiscovery chooses the nodes whose shared processor features are taken.
type CPUDiscovery struct {
	// nodeSelector chooses the nodes; without it, every node that can run machines. The features follow these nodes
	// until a machine names the class, and stay as they are while one does.
	// +optional
	NodeSelector metav1.LabelSelector `json:"nodeSelector,omitempty"`
}

// NodeSelector chooses nodes; a node must satisfy both members.
type NodeSelector struct {
	// matchLabels lists labels that a node must have.
	// +optional
	MatchLabels map[string]string `json:"matchLabels,omitempty"`

	// matchExpressions lists conditions on labels that a node must satisfy.
	// +optional
	// +listType=atomic
	MatchExpressions []corev1.NodeSelectorRequirement `json:"matchExpressions,omitempty"`
}

// SizingPolicy is what machines with a number of cores in its range are allowed.
type SizingPolicy struct {
	// cores is the range of cores that the policy covers.
	// +required
	Cores SizingPolicyCores `json:"cores"`

	// memory bounds the memory; without it every size is allowed.
	// +optional
	Memory *SizingPolicyMemory `json:"memory,omitempty"`

	// coreFractions lists the allowed shares of a core, in percent from 1 to 100; without it every share is allowed.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=100
	CoreFractions []CoreFractionPercent `json:"coreFractions,omitempty"`

	// defaultCoreFraction is the share of a core, in percent from 1 to 100, of machines that do not set coreFraction.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=4
	// +kubebuilder:validation:XValidation:rule="type(self) == int ? self >= 1 && self <= 100 : self.matches('^([1-9][0-9]?|100)%?$')",message="defaultCoreFraction must be a whole percentage from 1 to 100, for example 25"
	DefaultCoreFraction *intstr.IntOrString `json:"defaultCoreFraction,omitempty"`

	// dedicatedCores lists whether machines may ask for cores of their own. It is accepted and not used yet.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	DedicatedCores []bool `json:"dedicatedCores,omitempty"`
}

// CoreFractionPercent is a share of a core in percent.
// +kubebuilder:validation:Minimum=1
// +kubebuilder:validation:Maximum=100
type CoreFractionPercent int32

// SizingPolicyCores is a range of cores.
// +kubebuilder:validation:XValidation:rule="self.max > self.min",message="max must be greater than min",fieldPath=".max"
// +kubebuilder:validation:XValidation:rule="!has(self.step) || self.max > self.step",message="step must be smaller than max",fieldPath=".step"
type SizingPolicyCores struct {
	// min is the smallest number of cores in the range.
	// +required
	// +kubebuilder:validation:Minimum=1
	Min int32 `json:"min"`

	// max is the largest number of cores in the range.
	// +required
	// +kubebuilder:validation:Maximum=1024
	Max int32 `json:"max"`

	// step is the distance between allowed numbers of cores, counted from min; without it every number is allowed.
	// +optional
	// +kubebuilder:validation:Minimum=1
	Step *int32 `json:"step,omitempty"`
}

// SizingPolicyMemory bounds the memory of machines.
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || quantity(string(self.min)).compareTo(quantity(string(self.max))) <= 0",message="min must not be greater than max",fieldPath=".min"
type SizingPolicyMemory struct {
	// min is the smallest memory of a machine, for example 1Gi.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	Min *resource.Quantity `json:"min,omitempty"`

	// max is the largest memory of a machine.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	Max *resource.Quantity `json:"max,omitempty"`

	// step is the distance between allowed sizes, counted from the minimum; without it every size is allowed.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	Step *resource.Quantity `json:"step,omitempty"`

	// perCore bounds the memory for each core.
	// +optional
	PerCore *SizingPolicyMemoryPerCore `json:"perCore,omitempty"`
}

// SizingPolicyMemoryPerCore bounds the memory for each core.
// +kubebuilder:validation:XValidation:rule="!has(self.min) || !has(self.max) || quantity(string(self.min)).compareTo(quantity(string(self.max))) <= 0",message="min must not be greater than max",fieldPath=".min"
type SizingPolicyMemoryPerCore struct {
	// min is the smallest memory for each core, for example 512Mi.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	Min *resource.Quantity `json:"min,omitempty"`

	// max is the largest memory for each core.
	// +optional
	// +kubebuilder:validation:XIntOrString
	// +kubebuilder:validation:MaxLength=64
	Max *resource.Quantity `json:"max,omitempty"`
}

// VirtualMachineClassStatus is what the platform has made of a class.
type VirtualMachineClassStatus struct {
	// conditions tell what the class waits for, why, and who has to act. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Ready;Terminating
	Phase ClassPhase `json:"phase,omitempty"`

	// availableNodes lists the nodes that can run machines of the class, sorted.
	// +optional
	// +listType=atomic
	AvailableNodes []string `json:"availableNodes,omitempty"`

	// cpuFeatures tells which processor features the class gives to guests.
	// +optional
	CPUFeatures CPUFeatures `json:"cpuFeatures,omitempty"`

	// maxAllocatableResources is the largest amount of each resource that one of the available nodes can give.
	// +optional
	MaxAllocatableResources corev1.ResourceList `json:"maxAllocatableResources,omitempty"`
}

// CPUFeatures tells which processor features a class gives to guests.
type CPUFeatures struct {
	// enabled lists the features that guests see beside those of their model, sorted.
	// +optional
	// +listType=atomic
	Enabled []string `json:"enabled,omitempty"`

	// notEnabledCommon lists features that all available nodes have and guests of a class of the type Features or
	// Discovery do not see, sorted.
	// +optional
	// +listType=atomic
	NotEnabledCommon []string `json:"notEnabledCommon,omitempty"`
}

// VirtualMachineClassList is a list of classes.
// +kubebuilder:object:root=true
type VirtualMachineClassList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualMachineClass `json:"items"`
}
