// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
)

// testReconciler works on a server with the given objects. The cache shows only
// those for which cached is true, as one that lags behind does.
func testReconciler(t *testing.T, cached func(client.Object) bool, objects ...client.Object) *reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	server := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithIndex(&v1alpha2.VirtualMachineIPAddressLease{}, indexLeasesByClaim, claimOfLease).
		WithIndex(&v1alpha2.VirtualMachine{}, indexMachinesByClaim, claimNames).Build()
	lagging := interceptor.NewClient(server, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := c.List(ctx, list, opts...); err != nil {
				return err
			}
			if leases, ok := list.(*v1alpha2.VirtualMachineIPAddressLeaseList); ok {
				var shown []v1alpha2.VirtualMachineIPAddressLease
				for i := range leases.Items {
					if cached(&leases.Items[i]) {
						shown = append(shown, leases.Items[i])
					}
				}
				leases.Items = shown
			}
			return nil
		},
	})
	return &reconciler{client: lagging, direct: server, pool: testPool(t, "10.66.10.0/29"), clock: clocktesting.NewFakePassiveClock(start)}
}

func heldLease(name, namespace, claim, uid string) *v1alpha2.VirtualMachineIPAddressLease {
	return &v1alpha2.VirtualMachineIPAddressLease{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{v1alpha2.LabelVirtualMachineIPAddressUID: uid}},
		Spec: v1alpha2.VirtualMachineIPAddressLeaseSpec{
			VirtualMachineIPAddressRef: &v1alpha2.VirtualMachineIPAddressRef{Namespace: namespace, Name: claim},
		},
	}
}

func everything(client.Object) bool { return true }
func nothing(client.Object) bool    { return false }

// leases lists who has what on the server.
func leases(t *testing.T, r *reconciler) map[string]string {
	t.Helper()
	list := &v1alpha2.VirtualMachineIPAddressLeaseList{}
	if err := r.direct.List(context.Background(), list); err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for i := range list.Items {
		ref := list.Items[i].Spec.VirtualMachineIPAddressRef
		out[list.Items[i].Name] = ref.Namespace + "/" + ref.Name
	}
	return out
}

// runActions observes, decides, and does what was decided about the lease.
func runActions(t *testing.T, r *reconciler, claim *v1alpha2.VirtualMachineIPAddress) error {
	t.Helper()
	observed, err := r.observe(context.Background(), claim)
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

// A cache that knows of no lease proposes addresses that are long taken; each
// refusal leads to the next one at once.
func TestLeaseWithAnEmptyCache(t *testing.T) {
	r := testReconciler(t, nothing,
		heldLease("ip-10-66-10-1", "other", "a", "x"), heldLease("ip-10-66-10-2", "other", "b", "y"), heldLease("ip-10-66-10-3", "other", "", ""))
	if err := runActions(t, r, autoClaim("")); err != nil {
		t.Fatal(err)
	}
	if got := leases(t, r); got["ip-10-66-10-4"] != "team/web" || len(got) != 4 {
		t.Errorf("leases %v", got)
	}
}

// The reconcile that made a lease died before it could tell: the next one finds
// the lease, though the cache does not show it, and makes no second one.
func TestLeaseThatTheCacheDoesNotShow(t *testing.T) {
	r := testReconciler(t, nothing, heldLease("ip-10-66-10-5", "team", "web", "uid-1"))
	observed, err := r.observe(context.Background(), autoClaim(""))
	if err != nil {
		t.Fatal(err)
	}
	plan := r.plan(observed)
	if len(plan.Actions) > 0 || plan.Status == nil || plan.Status.Status.Address != "10.66.10.5" {
		t.Errorf("actions %d, status %+v", len(plan.Actions), plan.Status)
	}
}

// The lease of the wanted address exists and is the claim's own.
func TestCreatingAnOwnLeaseTwice(t *testing.T) {
	r := testReconciler(t, nothing, heldLease("ip-10-66-10-5", "team", "web", "uid-1"))
	if err := r.createLease(context.Background(), autoClaim(""), netip.MustParseAddr("10.66.10.5")); err != nil {
		t.Error(err)
	}
	namesake := autoClaim("")
	namesake.UID = "uid-2"
	if err := r.createLease(context.Background(), namesake, netip.MustParseAddr("10.66.10.5")); !errors.Is(err, errTaken) {
		t.Errorf("the lease of a claim that was deleted: got %v", err)
	}
}

func TestLeaseWhenEverythingIsTaken(t *testing.T) {
	var objects []client.Object
	for _, name := range []string{"ip-10-66-10-1", "ip-10-66-10-2", "ip-10-66-10-3", "ip-10-66-10-4", "ip-10-66-10-5", "ip-10-66-10-6"} {
		objects = append(objects, heldLease(name, "other", name, name))
	}
	for name, claim := range map[string]*v1alpha2.VirtualMachineIPAddress{"auto": autoClaim(""), "static": staticClaim("10.66.10.5", "")} {
		err := runActions(t, testReconciler(t, nothing, objects...), claim)
		var waiting *shared.WaitingError
		if !errors.As(err, &waiting) || waiting.After != 200*time.Millisecond {
			t.Errorf("%s: got %v, want to look again soon", name, err)
		}
	}
}

func TestReclaimingAReleasedLease(t *testing.T) {
	r := testReconciler(t, everything, heldLease("ip-10-66-10-5", "team", "", ""))
	if err := runActions(t, r, staticClaim("10.66.10.5", "")); err != nil {
		t.Fatal(err)
	}
	lease := &v1alpha2.VirtualMachineIPAddressLease{}
	if err := r.direct.Get(context.Background(), client.ObjectKey{Name: "ip-10-66-10-5"}, lease); err != nil {
		t.Fatal(err)
	}
	if lease.Spec.VirtualMachineIPAddressRef.Name != "web" || lease.Labels["virtualization.deckhouse.io/virtual-machine-ip-address-uid"] != "uid-1" {
		t.Errorf("lease %+v", lease)
	}
}

func TestMachinesOfAClaim(t *testing.T) {
	named := func(name, claim string, age time.Duration) *v1alpha2.VirtualMachine {
		return &v1alpha2.VirtualMachine{
			ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, CreationTimestamp: metav1.NewTime(start.Add(-age))},
			Spec:       v1alpha2.VirtualMachineSpec{VirtualMachineIPAddressName: claim},
		}
	}
	moved := named("moved", "elsewhere", time.Minute)
	moved.Status.VirtualMachineIPAddressName = "web"
	r := testReconciler(t, everything, named("young", "web", 0), named("old", "web", time.Hour), named("other", "else", 0), moved)
	machines, err := r.machinesOf(context.Background(), autoClaim(""))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, machine := range machines {
		names = append(names, machine.Name)
	}
	if len(names) != 3 || names[0] != "old" || names[1] != "moved" || names[2] != "young" {
		t.Errorf("machines %v", names)
	}
}

func TestClaimNames(t *testing.T) {
	plain := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Name: "web", UID: "3f1c2a52-6a0e-4f7b-9d7e-0a5a2c1b7e11"}}
	if got := claimNames(plain); len(got) != 1 || got[0] != "web-7d3d1557" {
		t.Errorf("a machine that names none: %v", got)
	}
	plain.Status.VirtualMachineIPAddressName = "web-7d3d1557"
	if got := claimNames(plain); len(got) != 1 {
		t.Errorf("the same claim twice: %v", got)
	}
	if got := claimNames(autoClaim("")); got != nil {
		t.Errorf("no machine at all: %v", got)
	}
}
