// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package v1alpha2 holds the user-facing types of the virtualization platform.
//
// The group is virtualization.deckhouse.io. Every kind follows the same rules: the spec belongs to the user and is
// never changed by the platform, the status belongs to the controllers, and the condition Ready tells in one word
// whether the object is done (it is what `kubectl wait --for=condition=Ready` and kstatus look at).
//
// +kubebuilder:object:generate=true
// +groupName=virtualization.deckhouse.io
package v1alpha2

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupName is the API group of every kind in this package.
const GroupName = "virtualization.deckhouse.io"

// Version is the only served and stored version of the group.
const Version = "v1alpha2"

// Kinds of the group, for owner references, block device references and messages.
const (
	// VirtualMachineKind is a machine with its own operating system.
	VirtualMachineKind = "VirtualMachine"
	// VirtualMachineClassKind is what administrators offer machines to run on.
	VirtualMachineClassKind = "VirtualMachineClass"
	// VirtualMachineBlockDeviceAttachmentKind is a block device plugged into a running machine.
	VirtualMachineBlockDeviceAttachmentKind = "VirtualMachineBlockDeviceAttachment"
	// VirtualMachineOperationKind is a one-shot order to a machine, such as a restart.
	VirtualMachineOperationKind = "VirtualMachineOperation"
	// VirtualMachineIPAddressKind is the claim of a project on an address for a machine.
	VirtualMachineIPAddressKind = "VirtualMachineIPAddress"
	// VirtualMachineIPAddressLeaseKind is the cluster-wide record that an address is taken.
	VirtualMachineIPAddressLeaseKind = "VirtualMachineIPAddressLease"
	// VirtualDiskKind is a writable disk.
	VirtualDiskKind = "VirtualDisk"
	// VirtualImageKind is a read-only image of one project.
	VirtualImageKind = "VirtualImage"
	// ClusterVirtualImageKind is a read-only image that every project may use.
	ClusterVirtualImageKind = "ClusterVirtualImage"
)

var (
	// SchemeGroupVersion is the group and version of this package.
	SchemeGroupVersion = schema.GroupVersion{Group: GroupName, Version: Version}
	// GroupVersion is the same value under the name that controller-runtime projects use.
	GroupVersion = SchemeGroupVersion
	// SchemeBuilder collects the functions that register the types.
	SchemeBuilder = runtime.NewSchemeBuilder(addKnownTypes)
	// AddToScheme registers all kinds of this package.
	AddToScheme = SchemeBuilder.AddToScheme
)

// Kind turns an unqualified kind into one qualified by the group.
func Kind(kind string) schema.GroupKind {
	return SchemeGroupVersion.WithKind(kind).GroupKind()
}

// Resource turns an unqualified resource into one qualified by the group.
func Resource(resource string) schema.GroupResource {
	return SchemeGroupVersion.WithResource(resource).GroupResource()
}

func addKnownTypes(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(SchemeGroupVersion,
		&VirtualMachine{}, &VirtualMachineList{},
		&VirtualMachineClass{}, &VirtualMachineClassList{},
		&VirtualMachineBlockDeviceAttachment{}, &VirtualMachineBlockDeviceAttachmentList{},
		&VirtualMachineOperation{}, &VirtualMachineOperationList{},
		&VirtualMachineIPAddress{}, &VirtualMachineIPAddressList{},
		&VirtualMachineIPAddressLease{}, &VirtualMachineIPAddressLeaseList{},
		&VirtualDisk{}, &VirtualDiskList{},
		&VirtualImage{}, &VirtualImageList{},
		&ClusterVirtualImage{}, &ClusterVirtualImageList{},
	)
	metav1.AddToGroupVersion(scheme, SchemeGroupVersion)
	return nil
}
