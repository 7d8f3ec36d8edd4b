// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package kubevirt

import (
	"k8s.io/utils/ptr"
	virtv1 "kubevirt.io/api/core/v1"
)

// Binding is how a guest is connected to the network of its pod.
type Binding string

const (
	// BindingBridge gives the pod's address to the guest itself.
	BindingBridge Binding = "bridge"
	// BindingMasquerade hides the guest behind its pod's address. From outside
	// there is no difference; inside, the guest sees an address that is always
	// the same.
	BindingMasquerade Binding = "masquerade"
)

// BindingOf reads the binding of a running guest; it is empty when the guest has
// none that is known.
func BindingOf(instance *virtv1.VirtualMachineInstance) Binding {
	for i := range instance.Spec.Domain.Devices.Interfaces {
		method := instance.Spec.Domain.Devices.Interfaces[i].InterfaceBindingMethod
		switch {
		case method.Bridge != nil:
			return BindingBridge
		case method.Masquerade != nil:
			return BindingMasquerade
		}
	}
	return ""
}

func networkInterface(in Input) virtv1.Interface {
	out := virtv1.Interface{Name: "default", Model: virtv1.VirtIO}
	if !ptr.Deref(in.Machine.Spec.EnableParavirtualization, true) {
		out.Model = "e1000"
	}
	if in.Binding == BindingBridge {
		// The guest takes the hardware address of the pod's device, the only one
		// that the cluster's network lets through.
		out.InterfaceBindingMethod = virtv1.InterfaceBindingMethod{Bridge: &virtv1.InterfaceBridge{}}
		return out
	}
	out.InterfaceBindingMethod = virtv1.InterfaceBindingMethod{Masquerade: &virtv1.InterfaceMasquerade{}}
	out.MacAddress = macAddress(in.Machine.UID)
	return out
}
