// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testPool(t *testing.T, cidrs ...string) ipam.Pool {
	t.Helper()
	pool, err := ipam.NewPool(cidrs)
	if err != nil {
		t.Fatal(err)
	}
	return pool
}

func autoClaim(address string) *v1alpha2.VirtualMachineIPAddress {
	return &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "uid-1", Generation: 3},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: "Auto"},
		Status:     v1alpha2.VirtualMachineIPAddressStatus{Address: address},
	}
}

func staticClaim(ip, address string) *v1alpha2.VirtualMachineIPAddress {
	claim := autoClaim(address)
	claim.Spec = v1alpha2.VirtualMachineIPAddressSpec{Type: "Static", StaticIP: ip}
	return claim
}

func lease(name string) v1alpha2.VirtualMachineIPAddressLease {
	return v1alpha2.VirtualMachineIPAddressLease{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: v1alpha2.VirtualMachineIPAddressLeaseSpec{
			VirtualMachineIPAddressRef: &v1alpha2.VirtualMachineIPAddressRef{Namespace: "team", Name: "web"},
		},
	}
}

func machine(name string) v1alpha2.VirtualMachine {
	return v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
}

func taken(holders map[string]ipam.Holder) map[netip.Addr]ipam.Holder {
	out := map[netip.Addr]ipam.Holder{}
	for address, holder := range holders {
		out[netip.MustParseAddr(address)] = holder
	}
	return out
}

// What is leased, by the state of the claim and of the ranges.
func TestDecideLeases(t *testing.T) {
	tests := []struct {
		name    string
		claim   *v1alpha2.VirtualMachineIPAddress
		taken   map[string]ipam.Holder
		kept    []netip.Addr
		full    bool
		want    string
		reclaim bool
	}{
		{name: "any free address", claim: autoClaim(""), want: "invalid IP"},
		{name: "any free address rather than one that the namespace released", claim: autoClaim(""), want: "invalid IP",
			kept: []netip.Addr{netip.MustParseAddr("10.66.10.5")}},
		{name: "one that the namespace released when there is no other", claim: autoClaim(""), want: "10.66.10.5", reclaim: true, full: true,
			kept: []netip.Addr{netip.MustParseAddr("10.66.10.5"), netip.MustParseAddr("10.66.10.6")}},
		{name: "IPv6 in other words", claim: staticClaim("FD00:0::5", ""), want: "fd00::5"},
		{name: "a static one", claim: staticClaim("10.66.10.5", ""), want: "10.66.10.5"},
		{name: "a static one that the namespace released", claim: staticClaim("10.66.10.5", ""), want: "10.66.10.5", reclaim: true,
			taken: map[string]ipam.Holder{"10.66.10.5": {Namespace: "team", Name: ""}}},
		{name: "a lost one", claim: autoClaim("10.66.10.4"), want: "10.66.10.4"},
		{name: "a lost one outside the ranges", claim: autoClaim("10.99.0.1"), want: "10.99.0.1"},
		{name: "a lost one that the namespace released", claim: autoClaim("10.66.10.4"), want: "10.66.10.4", reclaim: true,
			taken: map[string]ipam.Holder{"10.66.10.4": {Namespace: "team", Name: ""}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got := decide(Observed{
				Claim: test.claim, Taken: taken(test.taken), HasFree: !test.full, Released: test.kept,
				Pool: testPool(t, "10.66.10.0/29", "fd00::/64"), Now: start,
			})
			if got.lease == nil {
				t.Fatalf("leases nothing; status %+v", got.Status)
			}
			if got.lease.address.String() != test.want || got.lease.reclaim != test.reclaim {
				t.Errorf("leases %s (reclaim %v), want %s (%v)", got.lease.address, got.lease.reclaim, test.want, test.reclaim)
			}
			if got.Status != nil || len(got.Events) > 0 {
				t.Error("tells something before there is something to tell")
			}
			if got.Finalizer != shared.FinalizerAdd || got.FinalizerName != "virtualization.deckhouse.io/vmip-cleanup" {
				t.Errorf("finalizer %q %q", got.Finalizer, got.FinalizerName)
			}
		})
	}
}

// Why nothing can be leased: each reason with its message.
func TestDecideProblems(t *testing.T) {
	full := map[string]ipam.Holder{"10.66.10.4": {Namespace: "a", Name: ""}, "10.66.10.5": {Namespace: "other", Name: "theirs"}, "10.66.10.6": {Namespace: "team", Name: "db"}}
	tests := []struct {
		name            string
		claim           *v1alpha2.VirtualMachineIPAddress
		noRanges        bool
		reason, message string
	}{
		{name: "all taken", claim: autoClaim(""), reason: "NoFreeVirtualMachineIPAddress",
			message: "Every address of 10.66.10.0/29 is taken: add a range to virtualMachineCIDRs in ModuleConfig virtualization."},
		{name: "no ranges", claim: autoClaim(""), noRanges: true, reason: "NoFreeVirtualMachineIPAddress",
			message: "No address ranges are configured: set virtualMachineCIDRs in ModuleConfig virtualization."},
		{name: "static without ranges", claim: staticClaim("10.66.10.1", ""), noRanges: true, reason: "VirtualMachineIPAddressIsOutOfTheValidRange",
			message: "No address ranges are configured: set virtualMachineCIDRs in ModuleConfig virtualization."},
		{name: "no address at all", claim: staticClaim("ten", ""), reason: "VirtualMachineIPAddressIsOutOfTheValidRange",
			message: `spec.staticIP "ten" is no IP address.`},
		{name: "outside", claim: staticClaim("10.66.11.1", ""), reason: "VirtualMachineIPAddressIsOutOfTheValidRange",
			message: "spec.staticIP 10.66.11.1 is outside the ranges 10.66.10.0/29: make this VirtualMachineIPAddress again with an address of virtualMachineCIDRs."},
		{name: "broadcast", claim: staticClaim("10.66.10.7", ""), reason: "VirtualMachineIPAddressIsOutOfTheValidRange",
			message: "spec.staticIP 10.66.10.7 is the broadcast address of 10.66.10.0/29: make this VirtualMachineIPAddress again with an address of virtualMachineCIDRs."},
		{name: "taken in the namespace", claim: staticClaim("10.66.10.6", ""), reason: "VirtualMachineIPAddressLeaseAlreadyExists",
			message: "spec.staticIP 10.66.10.6 is taken by VirtualMachineIPAddress team/db: make this VirtualMachineIPAddress again with another address, or free this one."},
		{name: "taken by others, who stay unnamed", claim: staticClaim("10.66.10.5", ""), reason: "VirtualMachineIPAddressLeaseAlreadyExists",
			message: "spec.staticIP 10.66.10.5 is taken by another namespace: make this VirtualMachineIPAddress again with another address, or free this one."},
		{name: "kept for others", claim: staticClaim("10.66.10.4", ""), reason: "VirtualMachineIPAddressLeaseAlreadyExists",
			message: "spec.staticIP 10.66.10.4 is kept for another namespace for some minutes: make this VirtualMachineIPAddress again with another address, or free this one."},
		{name: "lost to others", claim: autoClaim("10.66.10.5"), reason: "VirtualMachineIPAddressLeaseLost",
			message: "The lease of 10.66.10.5 was deleted and the address is taken by another namespace now: delete this VirtualMachineIPAddress and make it again."},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			pool := testPool(t, "10.66.10.0/29")
			if test.noRanges {
				pool = ipam.Pool{}
			}
			got := decide(Observed{Claim: test.claim, Taken: taken(full), Pool: pool, Now: start})
			if got.lease != nil || got.Status == nil {
				t.Fatalf("leases %+v, status %+v", got.lease, got.Status)
			}
			if got.Status.Status.Phase != "Pending" {
				t.Errorf("phase %s", got.Status.Status.Phase)
			}
			for _, condition := range got.Status.Status.Conditions {
				if condition.Type == "Attached" {
					continue
				}
				if condition.Status != "False" || condition.Reason != test.reason || condition.Message != test.message {
					t.Errorf("%s: %s/%s %q\nwant False/%s %q", condition.Type, condition.Status, condition.Reason, condition.Message, test.reason, test.message)
				}
			}
			if len(got.Events) != 1 || got.Events[0].Type != "Warning" || got.Events[0].Message != test.message {
				t.Errorf("events %+v", got.Events)
			}
			again := decide(Observed{Claim: got.Status, Taken: taken(full), Pool: pool, Now: start.Add(time.Hour)})
			if diff := cmp.Diff(got.Status.Status, again.Status.Status); diff != "" || len(again.Events) > 0 {
				t.Errorf("a second look changes the status or tells again:\n%s%+v", diff, again.Events)
			}
		})
	}
}

// When an address may get free without anybody saying so, the claim looks again then.
func TestDecideLooksAgain(t *testing.T) {
	full := Observed{Claim: autoClaim(""), Pool: testPool(t, "10.66.10.0/29"), Now: start}
	for name, test := range map[string]struct {
		retry time.Time
		want  time.Duration
	}{
		"never":       {},
		"in a while":  {start.Add(20 * time.Second), 20 * time.Second},
		"was just so": {start.Add(-time.Second), time.Second},
	} {
		full.Retry = test.retry
		if got := decide(full); got.RequeueAfter != test.want || got.Status == nil {
			t.Errorf("%s: after %s, want %s", name, got.RequeueAfter, test.want)
		}
	}
}

func TestDecideHeld(t *testing.T) {
	tests := []struct {
		name     string
		claim    *v1alpha2.VirtualMachineIPAddress
		held     []string
		machines []v1alpha2.VirtualMachine
		want     v1alpha2.VirtualMachineIPAddressStatus
		deleted  []string
		again    time.Duration
	}{
		{name: "bound", claim: autoClaim(""), held: []string{"ip-10-66-10-5"},
			want: v1alpha2.VirtualMachineIPAddressStatus{Phase: "Bound", Address: "10.66.10.5"}},
		{name: "attached", claim: autoClaim(""), held: []string{"ip-10-66-10-5"}, machines: []v1alpha2.VirtualMachine{machine("web"), machine("db")},
			want: v1alpha2.VirtualMachineIPAddressStatus{Phase: "Attached", Address: "10.66.10.5", VirtualMachineName: "web"}},
		{name: "keeps its machine", claim: func() *v1alpha2.VirtualMachineIPAddress {
			claim := autoClaim("10.66.10.5")
			claim.Status.VirtualMachineName = "db"
			return claim
		}(), held: []string{"ip-10-66-10-5"}, machines: []v1alpha2.VirtualMachine{machine("web"), machine("db")},
			want: v1alpha2.VirtualMachineIPAddressStatus{Phase: "Attached", Address: "10.66.10.5", VirtualMachineName: "db"}},
		{name: "keeps its address of two", claim: autoClaim("10.66.10.6"), held: []string{"ip-10-66-10-5", "ip-10-66-10-6"},
			want: v1alpha2.VirtualMachineIPAddressStatus{Phase: "Bound", Address: "10.66.10.6"}, deleted: []string{"ip-10-66-10-5"}},
		{name: "takes the first of two", claim: autoClaim(""), held: []string{"ip-10-66-10-5", "ip-10-66-10-6"},
			want: v1alpha2.VirtualMachineIPAddressStatus{Phase: "Bound", Address: "10.66.10.5"}, again: time.Second},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var held []v1alpha2.VirtualMachineIPAddressLease
			for _, name := range test.held {
				held = append(held, lease(name))
			}
			got := decide(Observed{Claim: test.claim, Held: held, Machines: test.machines, Pool: testPool(t, "10.66.10.0/24"), Now: start})
			status := got.Status.Status
			conditions := status.Conditions
			status.Conditions = nil
			test.want.ObservedGeneration = 3
			if diff := cmp.Diff(test.want, status); diff != "" {
				t.Error(diff)
			}
			expectCondition(t, conditions, "Bound", "True", "Bound")
			expectCondition(t, conditions, "Ready", "True", "Bound")
			if test.want.VirtualMachineName == "" {
				expectCondition(t, conditions, "Attached", "False", "VirtualMachineNotFound")
			} else {
				expectCondition(t, conditions, "Attached", "True", "Attached")
			}
			var deleted []string
			for _, child := range got.Delete {
				deleted = append(deleted, child.GetName())
			}
			if diff := cmp.Diff(test.deleted, deleted); diff != "" || got.RequeueAfter != test.again {
				t.Errorf("looks again after %s, want %s\n%s", got.RequeueAfter, test.again, diff)
			}
		})
	}
}

// A guest goes on with the address that it was started with: the claim leases that one
// again although it has another one, as long as nobody else has it.
func TestDecideKeepsWhatWasShown(t *testing.T) {
	o := Observed{Claim: autoClaim("10.66.10.5"), Held: []v1alpha2.VirtualMachineIPAddressLease{lease("ip-10-66-10-6")}, Now: start}
	if got := decide(o); got.lease == nil || got.lease.address.String() != "10.66.10.5" || got.lease.reclaim || got.Status != nil || len(got.Delete) > 0 {
		t.Errorf("got %+v", got)
	}
	o.Taken = taken(map[string]ipam.Holder{"10.66.10.5": {Namespace: "other", Name: "theirs"}})
	if got := decide(o); got.lease != nil || got.Status == nil || got.Status.Status.Address != "10.66.10.6" || len(got.Delete) > 0 {
		t.Errorf("somebody else has it: %+v", got)
	}
}

func TestDecideHeldOtherThanStatic(t *testing.T) {
	got := decide(Observed{Claim: staticClaim("10.66.10.9", "10.66.10.5"), Held: []v1alpha2.VirtualMachineIPAddressLease{lease("ip-10-66-10-5")}, Now: start})
	if got.Status.Status.Address != "10.66.10.5" {
		t.Errorf("address %s", got.Status.Status.Address)
	}
	expectCondition(t, got.Status.Status.Conditions, "Bound", "False", "VirtualMachineIPAddressLeaseNotReady")
	same := decide(Observed{Claim: staticClaim("10.66.10.5", "10.66.10.5"), Held: []v1alpha2.VirtualMachineIPAddressLease{lease("ip-10-66-10-5")}, Now: start})
	expectCondition(t, same.Status.Status.Conditions, "Bound", "True", "Bound")
}

func TestDecideDeletion(t *testing.T) {
	claim := autoClaim("10.66.10.5")
	claim.DeletionTimestamp = &metav1.Time{Time: start}
	used := decide(Observed{Claim: claim, Machines: []v1alpha2.VirtualMachine{machine("web")}, Now: start})
	if used.Finalizer != shared.FinalizerKeep {
		t.Errorf("lets go of an address in use: %q", used.Finalizer)
	}
	expectCondition(t, used.Status.Status.Conditions, "Terminating", "True", "CleanupPending")
	expectCondition(t, used.Status.Status.Conditions, "Ready", "False", "Terminating")

	unused := decide(Observed{Claim: claim, Now: start})
	if unused.Finalizer != shared.FinalizerRemove || unused.lease != nil || unused.Status != nil {
		t.Errorf("got %+v", unused)
	}
}

func expectCondition(t *testing.T, conditions []metav1.Condition, conditionType string, status metav1.ConditionStatus, reason string) {
	t.Helper()
	for _, condition := range conditions {
		if condition.Type == conditionType {
			if condition.Status != status || condition.Reason != reason {
				t.Errorf("%s is %s/%s (%s), want %s/%s", conditionType, condition.Status, condition.Reason, condition.Message, status, reason)
			}
			return
		}
	}
	t.Errorf("no condition %s", conditionType)
}
