// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"fmt"

	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// claimUser is the other machine that uses the claim that a machine names; empty when
// there is none. One that is being deleted, or that has changed its mind and waits for
// a restart, will let go of it: whoever names the claim then only has to wait, and the
// machine's condition says so.
func (v *machineValidator) claimUser(ctx context.Context, machine *v1alpha2.VirtualMachine) (string, error) {
	wanted := client.ObjectKey{Namespace: machine.Namespace, Name: machine.Spec.VirtualMachineIPAddressName}
	if wanted.Name == "" {
		return "", nil
	}
	claim, err := shared.Find(ctx, v.reader, wanted, &v1alpha2.VirtualMachineIPAddress{})
	if err != nil || claim == nil || claim.Status.VirtualMachineName == "" || claim.Status.VirtualMachineName == machine.Name {
		return "", err
	}
	// The status of the claim may lag behind the end of the machine.
	key := client.ObjectKey{Namespace: machine.Namespace, Name: claim.Status.VirtualMachineName}
	user, err := shared.Find(ctx, v.reader, key, &v1alpha2.VirtualMachine{})
	if err != nil || user == nil || user.DeletionTimestamp != nil {
		return "", err
	}
	if has := user.Spec.VirtualMachineIPAddressName; has != wanted.Name && (has != "" || ipam.ClaimName(user.Name, user.UID) != wanted.Name) {
		return "", nil
	}
	return user.Name, nil
}

func ruleAddress(before, after *v1alpha2.VirtualMachine, facts machineFacts) field.ErrorList {
	path := field.NewPath("spec", "virtualMachineIPAddressName")
	name := after.Spec.VirtualMachineIPAddressName
	switch {
	case before != nil && before.Spec.VirtualMachineIPAddressName == name:
		return nil
	case name != "" && facts.pool.IsEmpty():
		return field.ErrorList{field.Forbidden(path, "no address ranges are configured: the administrator has to set virtualMachineCIDRs in ModuleConfig virtualization")}
	case facts.claimUser != "":
		return field.ErrorList{field.Invalid(path, name, fmt.Sprintf(
			"VirtualMachineIPAddress %s is used by VirtualMachine %s: name another one, or first delete that machine or give it another address", name, facts.claimUser))}
	case before == nil && name == "" && facts.namesake != nil:
		return field.ErrorList{field.Required(path, fmt.Sprintf(
			"VirtualMachineIPAddress %s exists: set the field to %[1]s to use it, or rename it", after.Name))}
	}
	return nil
}
