// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddresslease

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

var (
	start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	later = start.Add(time.Minute)
)

func testLease(claim string) *v1alpha2.VirtualMachineIPAddressLease {
	return &v1alpha2.VirtualMachineIPAddressLease{
		ObjectMeta: metav1.ObjectMeta{Name: "ip-10-66-10-5", Generation: 2, Labels: map[string]string{
			"virtualization.deckhouse.io/virtual-machine-ip-address-uid": "uid-1",
		}},
		Spec: v1alpha2.VirtualMachineIPAddressLeaseSpec{
			VirtualMachineIPAddressRef: &v1alpha2.VirtualMachineIPAddressRef{Namespace: "team", Name: claim},
		},
	}
}

func testClaim(uid string) *v1alpha2.VirtualMachineIPAddress {
	claim := &v1alpha2.VirtualMachineIPAddress{}
	claim.Namespace, claim.Name, claim.UID = "team", "web", "uid-1"
	if uid != "" {
		claim.UID = "uid-2"
	}
	return claim
}

// released is a lease whose status says since when it is released.
func released(since time.Time) *v1alpha2.VirtualMachineIPAddressLease {
	lease := testLease("")
	lease.Status.Phase = "Released"
	lease.Status.Conditions = []metav1.Condition{{
		Type: "Bound", Status: "False", Reason: "Released", LastTransitionTime: metav1.NewTime(since),
	}}
	return lease
}

func TestDecideStep(t *testing.T) {
	deleting := testLease("web")
	deleting.DeletionTimestamp = &metav1.Time{Time: start}
	noRef := testLease("")
	noRef.Spec.VirtualMachineIPAddressRef = nil
	unlabelled := testLease("web")
	unlabelled.Labels = nil

	tests := []struct {
		name    string
		o       Observed
		step    step
		phase   v1alpha2.LeasePhase
		requeue time.Duration
	}{
		{name: "claim exists", o: Observed{Lease: testLease("web"), Claim: testClaim("")}, phase: "Bound"},
		{name: "claim exists, lease without a uid", o: Observed{Lease: unlabelled, Claim: testClaim("")}, phase: "Bound"},
		{name: "claim gone", o: Observed{Lease: testLease("web")}, step: "Release"},
		{name: "claim made again", o: Observed{Lease: testLease("web"), Claim: testClaim("other")}, step: "Release"},
		{name: "just released", o: Observed{Lease: testLease("")}, phase: "Released", requeue: 10 * time.Minute},
		{name: "without a reference", o: Observed{Lease: noRef}, phase: "Released", requeue: 10 * time.Minute},
		{name: "retention runs", o: Observed{Lease: released(start.Add(-4 * time.Minute))}, phase: "Released", requeue: 6 * time.Minute},
		{name: "retention over", o: Observed{Lease: released(start.Add(-10 * time.Minute))}, step: "Delete"},
		{name: "being deleted", o: Observed{Lease: deleting, Claim: testClaim("")}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.o.Now = start
			got := decide(test.o)
			if got.step != test.step {
				t.Errorf("step %q, want %q", got.step, test.step)
			}
			var phase v1alpha2.LeasePhase
			if got.Status != nil {
				phase = got.Status.Status.Phase
			}
			if phase != test.phase {
				t.Errorf("phase %q, want %q", phase, test.phase)
			}
			if got.RequeueAfter != test.requeue {
				t.Errorf("requeue after %s, want %s", got.RequeueAfter, test.requeue)
			}
		})
	}
}

func TestBoundConditions(t *testing.T) {
	got := decide(Observed{Lease: testLease("web"), Claim: testClaim(""), Now: start}).Status.Status
	want := v1alpha2.VirtualMachineIPAddressLeaseStatus{
		ObservedGeneration: 2,
		Phase:              "Bound",
		Conditions: []metav1.Condition{
			{Type: "Bound", Status: "True", Reason: "Bound", ObservedGeneration: 2, LastTransitionTime: metav1.NewTime(start), Message: "The VirtualMachineIPAddress in spec holds the address."},
			{Type: "Ready", Status: "True", Reason: "Bound", ObservedGeneration: 2, LastTransitionTime: metav1.NewTime(start), Message: "The VirtualMachineIPAddress in spec holds the address."},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestReleasedConditionsAndEvent(t *testing.T) {
	lease := testLease("")
	lease.Status.Phase = "Bound"
	lease.Status.Conditions = []metav1.Condition{{Type: "Bound", Status: "True", Reason: "Bound", LastTransitionTime: metav1.NewTime(start.Add(-time.Hour))}}
	got := decide(Observed{Lease: lease, Now: start})
	want := []metav1.Condition{
		{Type: "Bound", Status: "False", Reason: "Released", ObservedGeneration: 2, LastTransitionTime: metav1.NewTime(start), Message: "No VirtualMachineIPAddress holds the address."},
		{Type: "Ready", Status: "True", Reason: "Released", ObservedGeneration: 2, LastTransitionTime: metav1.NewTime(start), Message: "The address is kept for namespace team until 2026-03-01T12:10:00Z and is free for all after that."},
	}
	if diff := cmp.Diff(want, got.Status.Status.Conditions); diff != "" {
		t.Error(diff)
	}
	if len(got.Events) != 1 || got.Events[0].Reason != "Released" {
		t.Errorf("events %+v", got.Events)
	}
}

// A second look changes nothing: neither the status nor the end of the
// retention.
func TestDecideIsStable(t *testing.T) {
	for name, o := range map[string]Observed{
		"bound":    {Lease: testLease("web"), Claim: testClaim(""), Now: start},
		"released": {Lease: testLease(""), Now: start},
	} {
		first := decide(o)
		again := decide(Observed{Lease: first.Status, Claim: o.Claim, Now: later})
		if diff := cmp.Diff(first.Status.Status, again.Status.Status); diff != "" {
			t.Errorf("%s: the status moved:\n%s", name, diff)
		}
		if len(again.Events) > 0 {
			t.Errorf("%s: told again: %+v", name, again.Events)
		}
	}
}
