// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package webhook

import (
	"context"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/ipam"
)

func testClaim(ipType v1alpha2.IPAddressType, static, held string) *v1alpha2.VirtualMachineIPAddress {
	return &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web"},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: ipType, StaticIP: static},
		Status:     v1alpha2.VirtualMachineIPAddressStatus{Address: held},
	}
}

func testLease(name, namespace, claim string) client.Object {
	return &v1alpha2.VirtualMachineIPAddressLease{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha2.VirtualMachineIPAddressLeaseSpec{
			VirtualMachineIPAddressRef: &v1alpha2.VirtualMachineIPAddressRef{Namespace: namespace, Name: claim},
		},
	}
}

func TestAddressCreate(t *testing.T) {
	leases := []client.Object{
		testLease("ip-10-66-10-5", "team", "db"), testLease("ip-10-66-10-6", "other", "theirs"),
		testLease("ip-10-66-10-7", "team", ""), testLease("ip-10-66-10-8", "other", ""), testLease("ip-10-66-10-9", "team", "web"),
		testLease("ip-fd00-0000-0000-0000-0000-0000-0000-0006", "team", "db"),
	}
	tests := []struct {
		name     string
		claim    *v1alpha2.VirtualMachineIPAddress
		noRanges bool
		want     []string
	}{
		{name: "auto", claim: testClaim("Auto", "", "")},
		{name: "auto without ranges", claim: testClaim("Auto", "", ""), noRanges: true, want: []string{"spec: Forbidden: no address ranges are configured"}},
		{name: "free", claim: testClaim("Static", "10.66.10.20", "")},
		{name: "no address", claim: testClaim("Static", "ten", ""), want: []string{`spec.staticIP: Invalid value: "ten": is no IP address`}},
		{name: "outside", claim: testClaim("Static", "10.66.11.1", ""), want: []string{"10.66.11.1 is outside the ranges 10.66.10.0/24"}},
		{name: "IPv6", claim: testClaim("Static", "fd00::5", "")},
		{name: "IPv6 in full", claim: testClaim("Static", "fd00:0:0:0:0:0:0:5", ""), want: []string{"spec.staticIP: Invalid value", "write it as fd00::5"}},
		{name: "IPv4 in IPv6", claim: testClaim("Static", "::ffff:10.66.10.20", ""), want: []string{"write it as 10.66.10.20"}},
		{name: "IPv6 that is taken", claim: testClaim("Static", "fd00::6", ""), want: []string{"is taken by VirtualMachineIPAddress db"}},
		{name: "IPv6 outside", claim: testClaim("Static", "fd01::5", ""), want: []string{"fd01::5 is outside the ranges 10.66.10.0/24, fd00::/64"}},
		{name: "network", claim: testClaim("Static", "10.66.10.0", ""), want: []string{"is the address of the network"}},
		{name: "broadcast", claim: testClaim("Static", "10.66.10.255", ""), want: []string{"is the broadcast address"}},
		{name: "taken by a neighbour", claim: testClaim("Static", "10.66.10.5", ""), want: []string{"is taken by VirtualMachineIPAddress db"}},
		{name: "taken by others", claim: testClaim("Static", "10.66.10.6", ""), want: []string{"is taken by another namespace"}},
		{name: "released by the namespace", claim: testClaim("Static", "10.66.10.7", "")},
		{name: "released by others", claim: testClaim("Static", "10.66.10.8", ""), want: []string{"is taken by another namespace"}},
		{name: "its own from before", claim: testClaim("Static", "10.66.10.9", "")},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := &addressValidator{reader: testReader(t, leases...), pool: testPool(t, "10.66.10.0/24", "fd00::/64")}
			if test.noRanges {
				v.pool = ipam.Pool{}
			}
			_, err := v.ValidateCreate(context.Background(), test.claim)
			expectAnswer(t, err, test.want)
		})
	}
}

func TestAddressUpdate(t *testing.T) {
	tests := []struct {
		name          string
		before, after *v1alpha2.VirtualMachineIPAddress
		want          []string
	}{
		{name: "nothing", before: testClaim("Static", "ten", ""), after: testClaim("Static", "ten", "")},
		{name: "pinned", before: testClaim("Auto", "", "10.66.10.5"), after: testClaim("Static", "10.66.10.5", "10.66.10.5")},
		{name: "pinned elsewhere", before: testClaim("Auto", "", "10.66.10.5"), after: testClaim("Static", "10.66.10.6", "10.66.10.5"),
			want: []string{"the address 10.66.10.5 is held", "staticIP 10.66.10.5"}},
		{name: "unpinned", before: testClaim("Static", "10.66.10.5", "10.66.10.5"), after: testClaim("Auto", "", "10.66.10.5"), want: []string{"is held"}},
		{name: "moved", before: testClaim("Static", "10.66.10.5", "10.66.10.5"), after: testClaim("Static", "10.66.10.6", "10.66.10.5"), want: []string{"is held"}},
		{name: "corrected before anything is held", before: testClaim("Static", "10.99.0.1", ""), after: testClaim("Static", "10.66.10.6", "")},
		{name: "made wrong before anything is held", before: testClaim("Auto", "", ""), after: testClaim("Static", "10.99.0.1", ""), want: []string{"outside"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			v := &addressValidator{reader: testReader(t), pool: testPool(t, "10.66.10.0/24")}
			_, err := v.ValidateUpdate(context.Background(), test.before, test.after)
			expectAnswer(t, err, test.want)
			test.after.DeletionTimestamp = ptr.To(metav1.Now())
			if _, err := v.ValidateUpdate(context.Background(), test.before, test.after); err != nil {
				t.Errorf("holds up a deletion: %v", err)
			}
		})
	}
	v := &addressValidator{}
	if _, err := v.ValidateDelete(context.Background(), testClaim("Auto", "", "")); err != nil {
		t.Error(err)
	}
	if _, err := v.ValidateCreate(context.Background(), testMachine()); err == nil {
		t.Error("accepts a machine")
	}
}
