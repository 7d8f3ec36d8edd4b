// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressType says how an address is chosen.
// +kubebuilder:validation:Enum=Auto;Static
type IPAddressType string

const (
	// IPAddressAuto takes any free address.
	IPAddressAuto IPAddressType = "Auto"
	// IPAddressStatic takes the address given in the spec.
	IPAddressStatic IPAddressType = "Static"
)

// IPAddressPhase is a summary of an address claim's conditions for people.
type IPAddressPhase string

const (
	// IPAddressPending means that no address is held yet.
	IPAddressPending IPAddressPhase = "Pending"
	// IPAddressBound means that an address is held and no machine uses it.
	IPAddressBound IPAddressPhase = "Bound"
	// IPAddressAttached means that a machine uses the address.
	IPAddressAttached IPAddressPhase = "Attached"
)

// LeasePhase is a summary of a lease's conditions for people.
type LeasePhase string

const (
	// LeaseBound means that the address is held by a claim.
	LeaseBound LeasePhase = "Bound"
	// LeaseReleased means that the address was given up; for a while only the same namespace may take it again.
	LeaseReleased LeasePhase = "Released"
)

// VirtualMachineIPAddress is the claim of a project on an address for one of its machines. It keeps the address while
// the machine is off and, unless the platform made it for the machine, after the machine is gone.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,singular=virtualmachineipaddress,shortName=vmip,categories=virtualization
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.status.address`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="VM",type=string,JSONPath=`.status.virtualMachineName`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="!has(oldSelf.status) || !has(oldSelf.status.address) || size(oldSelf.status.address) == 0 || self.spec == oldSelf.spec || (oldSelf.spec.type == 'Auto' && self.spec.type == 'Static' && self.spec.staticIP == oldSelf.status.address)",message="the address is held already: type may only change from Auto to Static with the address in status.address; make another VirtualMachineIPAddress for another address",fieldPath=".spec"
type VirtualMachineIPAddress struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what the user wants. If it is not set, any free address is taken.
	// +optional
	// +kubebuilder:default={"type": "Auto"}
	Spec VirtualMachineIPAddressSpec `json:"spec,omitempty"`

	// status is what the platform has made of it.
	// +optional
	// +kubebuilder:default={"observedGeneration": 0}
	Status VirtualMachineIPAddressStatus `json:"status,omitempty"`
}

// VirtualMachineIPAddressSpec is what the user wants of an address.
// +kubebuilder:validation:XValidation:rule="(has(self.staticIP) && size(self.staticIP) > 0) == (self.type == 'Static')",message="staticIP must be set when type is Static, and only then",fieldPath=".staticIP"
type VirtualMachineIPAddressSpec struct {
	// type says how the address is chosen: Auto takes any free one, Static the one in staticIP. Once an address is
	// held, Auto may become Static with the same address, and nothing else may change.
	// +required
	Type IPAddressType `json:"type"`

	// staticIP is the address to take when type is Static: an IPv4 address, or an IPv6 address in its shortest form. It
	// must lie in the module's virtualMachineCIDRs and be free.
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule="size(self) == 0 || self.matches('^((25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])[.]){3}(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])$') || self.matches('^[0-9a-f]{0,4}(:[0-9a-f]{0,4}){2,7}$')",message="staticIP must be an IP address, for example 10.66.10.5 or fd00::5"
	StaticIP string `json:"staticIP,omitempty"`
}

// VirtualMachineIPAddressStatus is what the platform has made of an address claim.
type VirtualMachineIPAddressStatus struct {
	// conditions tell what the claim waits for, why, and who has to act. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Pending;Bound;Attached
	Phase IPAddressPhase `json:"phase,omitempty"`

	// address is the address that the claim holds.
	// +optional
	Address string `json:"address,omitempty"`

	// virtualMachineName is the machine that uses the address.
	// +optional
	VirtualMachineName string `json:"virtualMachineName,omitempty"`
}

// VirtualMachineIPAddressList is a list of address claims.
// +kubebuilder:object:root=true
type VirtualMachineIPAddressList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualMachineIPAddress `json:"items"`
}

// VirtualMachineIPAddressLease is the cluster-wide record that an address is taken. Its name is the address, so an
// address cannot be taken twice: ip-10-66-10-5 for 10.66.10.5, and for IPv6 all eight groups of four digits,
// ip-fd00-0000-0000-0000-0000-0000-0000-0005 for fd00::5. The platform makes and deletes leases; people only look at
// them.
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,singular=virtualmachineipaddresslease,shortName=vmipl;vmiplease,categories=virtualization-cluster
// +kubebuilder:metadata:labels="heritage=deckhouse"
// +kubebuilder:metadata:labels="module=virtualization"
// +kubebuilder:printcolumn:name="VirtualMachineIPAddress",type=string,JSONPath=`.spec.virtualMachineIPAddressRef`
// +kubebuilder:printcolumn:name="Status",type=string,JSONPath=`.status.phase`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="oldSelf.hasValue() || self.metadata.name.matches('^ip(-(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])){4}$') || self.metadata.name.matches('^ip(-[0-9a-f]{4}){8}$')",message="metadata.name must be the address, for example ip-10-66-10-5, or with all eight groups ip-fd00-0000-0000-0000-0000-0000-0000-0005",optionalOldSelf=true
type VirtualMachineIPAddressLease struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec says who holds the address.
	// +optional
	Spec VirtualMachineIPAddressLeaseSpec `json:"spec,omitempty"`

	// status is what the platform has made of it. A lease is made for the claim that holds it, so a new one is Bound.
	// +optional
	// +kubebuilder:default={"observedGeneration": 1, "phase": "Bound", "conditions": {{"type": "Bound", "status": "True", "reason": "Bound", "message": "The VirtualMachineIPAddress in spec holds the address.", "observedGeneration": 1, "lastTransitionTime": "1970-01-01T00:00:00Z"}, {"type": "Ready", "status": "True", "reason": "Bound", "message": "The VirtualMachineIPAddress in spec holds the address.", "observedGeneration": 1, "lastTransitionTime": "1970-01-01T00:00:00Z"}}}
	Status VirtualMachineIPAddressLeaseStatus `json:"status,omitempty"`
}

// VirtualMachineIPAddressLeaseSpec says who holds an address.
type VirtualMachineIPAddressLeaseSpec struct {
	// virtualMachineIPAddressRef names the claim that holds the address. A released lease keeps the namespace and an
	// empty name.
	// +optional
	VirtualMachineIPAddressRef *VirtualMachineIPAddressRef `json:"virtualMachineIPAddressRef,omitempty"`
}

// VirtualMachineIPAddressRef names an address claim.
type VirtualMachineIPAddressRef struct {
	// name is the name of the claim; empty when the lease is released.
	// +required
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`

	// namespace is the namespace of the claim.
	// +required
	// +kubebuilder:validation:MaxLength=63
	Namespace string `json:"namespace"`
}

// VirtualMachineIPAddressLeaseStatus is what the platform has made of a lease.
type VirtualMachineIPAddressLeaseStatus struct {
	// conditions tell whether the lease is held. Ready sums them up.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`

	// observedGeneration is the generation of the spec that the status describes.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`

	// phase is a summary of the conditions for people.
	// +optional
	// +kubebuilder:validation:Enum=Bound;Released
	Phase LeasePhase `json:"phase,omitempty"`
}

// VirtualMachineIPAddressLeaseList is a list of leases.
// +kubebuilder:object:root=true
type VirtualMachineIPAddressLeaseList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`

	Items []VirtualMachineIPAddressLease `json:"items"`
}
