// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/controller/shared"
	"github.com/deckhouse/virtualization/internal/ipam"
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
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, object client.Object, opts ...client.GetOption) error {
			if !cached(object) {
				return apierrors.NewNotFound(schema.GroupResource{Resource: "virtualmachineipaddressleases"}, key.Name)
			}
			return c.Get(ctx, key, object, opts...)
		},
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
	return &reconciler{client: lagging, direct: server, addresses: testBook(t), clock: clocktesting.NewFakePassiveClock(start)}
}

// testBook knows nothing yet.
func testBook(t *testing.T) *addressBook {
	t.Helper()
	return &addressBook{Allocator: ipam.NewAllocator(testPool(t, "10.66.10.0/29"), clocktesting.NewFakePassiveClock(start))}
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

// Another replica has made leases that nothing has told of: each refusal leads to the
// next address at once, and is remembered.
func TestLeaseThatNobodyKnewOf(t *testing.T) {
	r := testReconciler(t, nothing,
		heldLease("ip-10-66-10-1", "other", "a", "x"), heldLease("ip-10-66-10-2", "other", "b", "y"), heldLease("ip-10-66-10-3", "other", "", ""))
	r.addresses.learned = true
	if err := runActions(t, r, autoClaim("")); err != nil {
		t.Fatal(err)
	}
	if got := leases(t, r); got["ip-10-66-10-4"] != "team/web" || len(got) != 4 {
		t.Errorf("leases %v", got)
	}
	if got := r.addresses.HeldBy(ipam.Holder{Namespace: "other", Name: "b"}); len(got) != 1 {
		t.Errorf("b has %s", got)
	}
}

// What this replica does not know yet, it learns once, before it gives anything away.
func TestLearning(t *testing.T) {
	r := testReconciler(t, nothing, heldLease("ip-10-66-10-1", "other", "a", "x"), heldLease("no-address", "other", "b", "y"))
	var lists int
	r.direct = interceptor.NewClient(r.direct.(client.WithWatch), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if lists++; lists == 1 {
				return errors.New("the server is gone")
			}
			return c.List(ctx, list, opts...)
		},
	})
	if _, err := r.observe(context.Background(), autoClaim("")); err == nil {
		t.Fatal("gives an address away on half the truth")
	}
	for range 3 {
		observed, err := r.observe(context.Background(), autoClaim(""))
		if err != nil || !observed.HasFree {
			t.Fatalf("got %+v, %v", observed, err)
		}
	}
	if lists != 2 {
		t.Errorf("listed %d times", lists)
	}
	if usage := r.addresses.Usage(); usage[0].Held != 1 {
		t.Errorf("knows %+v", usage)
	}
}

// The lease of a claim is found though the cache does not show it, and its address is
// free for all when the lease is gone all the same.
func TestLeaseThatWasMadeAMomentAgo(t *testing.T) {
	r := testReconciler(t, nothing)
	if err := runActions(t, r, autoClaim("")); err != nil {
		t.Fatal(err)
	}
	observed, err := r.observe(context.Background(), autoClaim(""))
	if err != nil || len(observed.Held) != 1 || observed.Held[0].Name != "ip-10-66-10-1" {
		t.Fatalf("holds %+v, %v", observed.Held, err)
	}
	if err := r.client.Delete(context.Background(), &observed.Held[0]); err != nil {
		t.Fatal(err)
	}
	if observed, err = r.observe(context.Background(), autoClaim("")); err != nil || len(observed.Held) != 0 {
		t.Fatalf("holds %+v, %v", observed.Held, err)
	}
	if usage := r.addresses.Usage(); usage[0].Held != 0 {
		t.Errorf("a lease that is gone counts: %+v", usage)
	}
}

// When it is not known whether a lease was made, the next look finds out.
func TestLeaseWithoutAnAnswer(t *testing.T) {
	for _, made := range []bool{true, false} {
		r := testReconciler(t, nothing)
		lost := errors.New("the connection broke")
		r.client = interceptor.NewClient(r.client.(client.WithWatch), interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, object client.Object, opts ...client.CreateOption) error {
				if made {
					if err := c.Create(ctx, object, opts...); err != nil {
						return err
					}
				}
				return lost
			},
		})
		if err := runActions(t, r, autoClaim("")); !errors.Is(err, lost) {
			t.Fatal(err)
		}
		observed, err := r.observe(context.Background(), autoClaim(""))
		if err != nil || (len(observed.Held) == 1) != made {
			t.Errorf("made %v: holds %+v, %v", made, observed.Held, err)
		}
	}
}

// A full pool still has the addresses that the namespace itself released.
func TestAutoReclaimsWhenThePoolIsFull(t *testing.T) {
	var objects []client.Object
	for _, name := range []string{"ip-10-66-10-1", "ip-10-66-10-2", "ip-10-66-10-3", "ip-10-66-10-4"} {
		objects = append(objects, heldLease(name, "other", name, name))
	}
	objects = append(objects, heldLease("ip-10-66-10-5", "other", "", ""), heldLease("ip-10-66-10-6", "team", "", ""), heldLease("ip-10-99-0-1", "team", "", ""))
	r := testReconciler(t, everything, objects...)
	if err := runActions(t, r, autoClaim("")); err != nil {
		t.Fatal(err)
	}
	if got := leases(t, r); got["ip-10-66-10-6"] != "team/web" || got["ip-10-66-10-5"] != "other/" || got["ip-10-99-0-1"] != "team/" {
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

// Somebody takes the last address, or the wanted one, between the look and the lease.
func TestLeaseThatIsTakenMeanwhile(t *testing.T) {
	var objects []client.Object
	for _, name := range []string{"ip-10-66-10-1", "ip-10-66-10-2", "ip-10-66-10-3", "ip-10-66-10-4", "ip-10-66-10-5", "ip-10-66-10-6"} {
		objects = append(objects, heldLease(name, "other", name, name))
	}
	for name, claim := range map[string]*v1alpha2.VirtualMachineIPAddress{"auto": autoClaim(""), "static": staticClaim("10.66.10.5", "")} {
		r := testReconciler(t, nothing, objects...)
		r.addresses.learned = true
		err := runActions(t, r, claim)
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
