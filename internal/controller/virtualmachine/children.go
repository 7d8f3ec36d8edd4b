// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package virtualmachine

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	virtv1 "kubevirt.io/api/core/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/kubevirt"
)

// newClaim builds the address claim that lives as long as the machine. It is born
// with its finalizer, which saves its controller a write.
func newClaim(o Observed) *v1alpha2.VirtualMachineIPAddress {
	owner := metav1.NewControllerRef(o.Machine, v1alpha2.SchemeGroupVersion.WithKind(v1alpha2.VirtualMachineKind))
	return &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{
			Namespace:       o.Machine.Namespace,
			Name:            o.claimName(),
			Labels:          map[string]string{v1alpha2.LabelVirtualMachineUID: string(o.Machine.UID)},
			Finalizers:      []string{v1alpha2.FinalizerVMIPCleanup},
			OwnerReferences: []metav1.OwnerReference{*owner},
		},
		Spec: v1alpha2.VirtualMachineIPAddressSpec{Type: v1alpha2.IPAddressAuto},
	}
}

// newEngine is what the engine is shown of the machine, see rollout.
func newEngine(o Observed, deps dependencies) (shared.Child, error) {
	full, err := render(o, deps)
	if err != nil {
		return shared.Child{}, err
	}
	shown, err := rollout(o, full)
	if err != nil {
		return shared.Child{}, err
	}
	child := shared.Child{Want: shown}
	if o.Engine != nil {
		child.Have = o.Engine
	}
	return child, nil
}

// render makes the whole machine from what its dependencies came to.
func render(o Observed, deps dependencies) (*virtv1.VirtualMachine, error) {
	rendered, err := kubevirt.Render(kubevirt.Input{
		Machine: o.Machine,
		Class:   o.Class,
		Address: deps.address,
		Devices: deps.attachable, Attached: o.attachedDevices(),
		Binding: o.binding(),

		RunStrategy: o.runStrategy(),
	})
	if err != nil {
		return nil, err
	}
	return rendered, kubevirt.MarkStart(rendered)
}
