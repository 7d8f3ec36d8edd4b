// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"net/netip"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/ipam"
)

// newLease builds the lease by which a claim takes an address. The lease has no
// owner reference: it is of the cluster, and it outlives the claim on purpose.
func newLease(claim *v1alpha2.VirtualMachineIPAddress, address netip.Addr) *v1alpha2.VirtualMachineIPAddressLease {
	return &v1alpha2.VirtualMachineIPAddressLease{
		ObjectMeta: metav1.ObjectMeta{
			Name:   ipam.LeaseName(address),
			Labels: map[string]string{v1alpha2.LabelVirtualMachineIPAddressUID: string(claim.UID)},
		},
		Spec: v1alpha2.VirtualMachineIPAddressLeaseSpec{
			VirtualMachineIPAddressRef: &v1alpha2.VirtualMachineIPAddressRef{Namespace: claim.Namespace, Name: claim.Name},
		},
	}
}

// newReclaimedLease is a released lease as its new holder wants it.
func newReclaimedLease(claim *v1alpha2.VirtualMachineIPAddress, released *v1alpha2.VirtualMachineIPAddressLease) *v1alpha2.VirtualMachineIPAddressLease {
	want := released.DeepCopy()
	if want.Labels == nil {
		want.Labels = map[string]string{}
	}
	want.Labels[v1alpha2.LabelVirtualMachineIPAddressUID] = string(claim.UID)
	want.Spec.VirtualMachineIPAddressRef = &v1alpha2.VirtualMachineIPAddressRef{Namespace: claim.Namespace, Name: claim.Name}
	return want
}

// isHeldBy tells whether a lease names the claim and was made for it, not for a
// namesake that was deleted.
func isHeldBy(lease *v1alpha2.VirtualMachineIPAddressLease, claim *v1alpha2.VirtualMachineIPAddress) bool {
	ref := lease.Spec.VirtualMachineIPAddressRef
	if ref == nil || ref.Namespace != claim.Namespace || ref.Name != claim.Name {
		return false
	}
	uid := lease.Labels[v1alpha2.LabelVirtualMachineIPAddressUID]
	return uid == "" || uid == string(claim.UID)
}

// claimant is the claim as the holder of an address.
func claimant(claim *v1alpha2.VirtualMachineIPAddress) ipam.Holder {
	return ipam.Holder{Namespace: claim.Namespace, Name: claim.Name}
}

// holderOf is who a lease says has the address.
func holderOf(lease *v1alpha2.VirtualMachineIPAddressLease) ipam.Holder {
	if ref := lease.Spec.VirtualMachineIPAddressRef; ref != nil {
		return ipam.Holder{Namespace: ref.Namespace, Name: ref.Name}
	}
	return ipam.Holder{}
}
