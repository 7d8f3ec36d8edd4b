// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddresslease

import (
	"context"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

func testReconciler(t *testing.T, objects ...client.Object) *reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	server := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&v1alpha2.VirtualMachineIPAddressLease{}).
		WithIndex(&v1alpha2.VirtualMachineIPAddressLease{}, indexByClaim, claimKey).Build()
	return &reconciler{client: server, clock: clocktesting.NewFakePassiveClock(start)}
}

func (r *reconciler) lease(t *testing.T) *v1alpha2.VirtualMachineIPAddressLease {
	t.Helper()
	lease := &v1alpha2.VirtualMachineIPAddressLease{}
	if err := r.client.Get(context.Background(), client.ObjectKey{Name: "ip-10-66-10-5"}, lease); err != nil {
		t.Fatal(err)
	}
	return lease
}

// pass observes, decides, and takes the step on the lease itself.
func (r *reconciler) pass(t *testing.T, lease *v1alpha2.VirtualMachineIPAddressLease) error {
	t.Helper()
	observed, err := r.observe(context.Background(), lease)
	if err != nil {
		t.Fatal(err)
	}
	for _, action := range r.plan(observed).Actions {
		if err := action.Run(context.Background()); err != nil {
			return err
		}
	}
	return nil
}

func TestReleaseKeepsTheNamespace(t *testing.T) {
	r := testReconciler(t, testLease("web"))
	if err := r.pass(t, r.lease(t)); err != nil {
		t.Fatal(err)
	}
	got := r.lease(t)
	if ref := got.Spec.VirtualMachineIPAddressRef; ref.Name != "" || ref.Namespace != "team" {
		t.Errorf("refers to %+v", ref)
	}
	if _, labelled := got.Labels["virtualization.deckhouse.io/virtual-machine-ip-address-uid"]; labelled {
		t.Error("still has the uid of the claim that is gone")
	}
}

func TestHeldLeaseIsLeftAlone(t *testing.T) {
	r := testReconciler(t, testLease("web"), testClaim(""))
	if err := r.pass(t, r.lease(t)); err != nil {
		t.Fatal(err)
	}
	if r.lease(t).Spec.VirtualMachineIPAddressRef.Name != "web" {
		t.Error("released a lease that is held")
	}
}

func TestExpiredLeaseIsDeleted(t *testing.T) {
	r := testReconciler(t, released(start.Add(-time.Hour)))
	lease := r.lease(t)
	if err := r.pass(t, lease); err != nil {
		t.Fatal(err)
	}
	err := r.client.Get(context.Background(), client.ObjectKeyFromObject(lease), lease)
	if !apierrors.IsNotFound(err) {
		t.Errorf("still there: %v", err)
	}
}

// Somebody takes the lease over between the look and the release.
func TestReleaseLosesAgainstAClaimThatTakesOver(t *testing.T) {
	r := testReconciler(t, testLease("web"))
	seen := r.lease(t)
	taken := r.lease(t)
	taken.Spec.VirtualMachineIPAddressRef.Name = "db"
	if err := r.client.Update(context.Background(), taken); err != nil {
		t.Fatal(err)
	}
	if err := r.pass(t, seen); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	if r.lease(t).Spec.VirtualMachineIPAddressRef.Name != "db" {
		t.Error("took the lease from its new holder")
	}
}

func TestLeasesOfAClaim(t *testing.T) {
	r := testReconciler(t, testLease("web"))
	if got := r.leasesOfClaim(context.Background(), testClaim("")); len(got) != 1 || got[0].Name != "ip-10-66-10-5" {
		t.Errorf("got %v", got)
	}
	other := testClaim("")
	other.Name = "db"
	if got := r.leasesOfClaim(context.Background(), other); len(got) != 0 {
		t.Errorf("got %v", got)
	}
	if keys := claimKey(testLease("")); keys != nil {
		t.Errorf("a released lease is found by %v", keys)
	}
}
