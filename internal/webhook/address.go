// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/validation/field"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// addressValidator answers for VirtualMachineIPAddresses.
type addressValidator struct {
	reader client.Reader
	pool   ipam.Pool
}

// ValidateCreate implements admission.CustomValidator.
func (v *addressValidator) ValidateCreate(ctx context.Context, object runtime.Object) (admission.Warnings, error) {
	claim, ok := object.(*v1alpha2.VirtualMachineIPAddress)
	if !ok {
		return nil, fmt.Errorf("expected a VirtualMachineIPAddress, got %T", object)
	}
	return v.validate(ctx, claim)
}

// ValidateUpdate implements admission.CustomValidator.
func (v *addressValidator) ValidateUpdate(ctx context.Context, oldObject, newObject runtime.Object) (admission.Warnings, error) {
	before, ok := oldObject.(*v1alpha2.VirtualMachineIPAddress)
	after, okNew := newObject.(*v1alpha2.VirtualMachineIPAddress)
	if !ok || !okNew {
		return nil, fmt.Errorf("expected VirtualMachineIPAddresses, got %T and %T", oldObject, newObject)
	}
	if after.DeletionTimestamp != nil || before.Spec == after.Spec {
		return nil, nil
	}
	if held := before.Status.Address; held != "" {
		return nil, invalid(v1alpha2.VirtualMachineIPAddressKind, after, checkHeld(before, after, held))
	}
	return v.validate(ctx, after)
}

// ValidateDelete implements admission.CustomValidator. Deleting is always allowed.
func (v *addressValidator) ValidateDelete(context.Context, runtime.Object) (admission.Warnings, error) {
	return nil, nil
}

func (v *addressValidator) validate(ctx context.Context, claim *v1alpha2.VirtualMachineIPAddress) (admission.Warnings, error) {
	address, problems := checkStatic(claim, v.pool)
	if len(problems) > 0 || !address.IsValid() {
		return nil, invalid(v1alpha2.VirtualMachineIPAddressKind, claim, problems)
	}
	lease, err := shared.Find(ctx, v.reader, client.ObjectKey{Name: ipam.LeaseName(address)}, &v1alpha2.VirtualMachineIPAddressLease{})
	if err != nil {
		return nil, err
	}
	return nil, invalid(v1alpha2.VirtualMachineIPAddressKind, claim, checkFree(claim, lease))
}

// checkHeld allows the one change that a held address leaves open: pinning it.
func checkHeld(before, after *v1alpha2.VirtualMachineIPAddress, held string) field.ErrorList {
	pins := before.Spec.Type == v1alpha2.IPAddressAuto && after.Spec.Type == v1alpha2.IPAddressStatic
	if pins && after.Spec.StaticIP == held {
		return nil
	}
	return field.ErrorList{field.Forbidden(field.NewPath("spec"), fmt.Sprintf(
		"the address %s is held: the only change allowed is from type Auto to type Static with staticIP %[1]s; for another address make another VirtualMachineIPAddress", held))}
}

// checkStatic returns the address that a Static claim wants; none for Auto.
func checkStatic(claim *v1alpha2.VirtualMachineIPAddress, pool ipam.Pool) (netip.Addr, field.ErrorList) {
	path := field.NewPath("spec", "staticIP")
	if pool.IsEmpty() {
		return netip.Addr{}, field.ErrorList{field.Forbidden(field.NewPath("spec"),
			"no address ranges are configured: the administrator has to set virtualMachineCIDRs in ModuleConfig virtualization")}
	}
	if claim.Spec.Type != v1alpha2.IPAddressStatic {
		return netip.Addr{}, nil
	}
	address, err := netip.ParseAddr(claim.Spec.StaticIP)
	if err != nil {
		return netip.Addr{}, field.ErrorList{field.Invalid(path, claim.Spec.StaticIP, "is no IP address")}
	}
	// Other spellings would not be found equal to the address that is held.
	if canonical := address.Unmap().WithZone(""); canonical.String() != claim.Spec.StaticIP {
		return netip.Addr{}, field.ErrorList{field.Invalid(path, claim.Spec.StaticIP, fmt.Sprintf("has another usual form: write it as %s", canonical))}
	}
	if err := pool.Check(address); err != nil && !errors.Is(err, ipam.ErrNoRanges) {
		return netip.Addr{}, field.ErrorList{field.Invalid(path, claim.Spec.StaticIP, err.Error()+": choose an address of virtualMachineCIDRs")}
	}
	return address, nil
}

// checkFree refuses an address that somebody has; who that is stays within the
// namespace.
func checkFree(claim *v1alpha2.VirtualMachineIPAddress, lease *v1alpha2.VirtualMachineIPAddressLease) field.ErrorList {
	if lease == nil || lease.Spec.VirtualMachineIPAddressRef == nil {
		return nil
	}
	path := field.NewPath("spec", "staticIP")
	ref := lease.Spec.VirtualMachineIPAddressRef
	switch {
	case ref.Namespace != claim.Namespace:
		return field.ErrorList{field.Invalid(path, claim.Spec.StaticIP, "is taken by another namespace, or was until some minutes ago: choose another address")}
	case ref.Name != "" && ref.Name != claim.Name:
		return field.ErrorList{field.Invalid(path, claim.Spec.StaticIP, fmt.Sprintf(
			"is taken by VirtualMachineIPAddress %s: choose another address or delete that one", ref.Name))}
	}
	return nil
}
