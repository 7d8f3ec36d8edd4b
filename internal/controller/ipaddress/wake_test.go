// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// memoryIndexer hands the indexes that the controller registers to a fake server.
type memoryIndexer struct{ builder *fake.ClientBuilder }

func (m memoryIndexer) IndexField(_ context.Context, object client.Object, field string, extract client.IndexerFunc) error {
	m.builder.WithIndex(object, field, extract)
	return nil
}

// indexed is a reconciler over a server with the controller's own indexes.
func indexed(t *testing.T, objects ...client.Object) *reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	if err := v1alpha2.AddToScheme(scheme); err != nil {
		t.Fatal(err)
	}
	builder := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...)
	if err := addIndexes(memoryIndexer{builder}); err != nil {
		t.Fatal(err)
	}
	server := builder.Build()
	return &reconciler{client: server, direct: server, pool: testPool(t, "10.66.10.0/29"), clock: clocktesting.NewFakePassiveClock(start)}
}

func claimIn(namespace, name string, phase v1alpha2.IPAddressPhase) *v1alpha2.VirtualMachineIPAddress {
	return &v1alpha2.VirtualMachineIPAddress{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: "uid-1"},
		Spec:       v1alpha2.VirtualMachineIPAddressSpec{Type: "Auto"},
		Status:     v1alpha2.VirtualMachineIPAddressStatus{Phase: phase},
	}
}

func names(requests []reconcile.Request) string {
	var out []string
	for _, request := range requests {
		out = append(out, request.String())
	}
	slices.Sort(out)
	return strings.Join(out, " ")
}

// An address that gets free is news for everybody who waits for one, in every
// namespace; for those who have one it is none.
func TestWhoIsWokenByALease(t *testing.T) {
	r := indexed(t, claimIn("team", "waits", "Pending"), claimIn("other", "waits", "Pending"), claimIn("team", "has", "Bound"), claimIn("team", "new", ""))
	for _, tc := range []struct {
		title string
		lease *v1alpha2.VirtualMachineIPAddressLease
		want  string
	}{
		{"held", heldLease("ip-10-66-10-1", "team", "has", "uid-1"), "other/waits team/has team/waits"},
		{"released", heldLease("ip-10-66-10-1", "team", "", ""), "other/waits team/waits"},
		{"of nobody", &v1alpha2.VirtualMachineIPAddressLease{}, "other/waits team/waits"},
	} {
		if got := names(r.claimsOfLease(context.Background(), tc.lease)); got != tc.want {
			t.Errorf("%s: %s, want %s", tc.title, got, tc.want)
		}
	}
}

func TestWhoIsWokenByAMachine(t *testing.T) {
	m := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: "web", UID: "uid"}}
	m.Spec.VirtualMachineIPAddressName, m.Status.VirtualMachineIPAddressName = "wanted", "used"
	if got := names(claimsOfMachine(context.Background(), m)); got != "team/used team/wanted" {
		t.Errorf("woken: %s", got)
	}
}

func TestClaimOfLease(t *testing.T) {
	if got := claimOfLease(heldLease("ip-10-66-10-1", "team", "web", "")); len(got) != 1 || got[0] != "team/web" {
		t.Errorf("got %v", got)
	}
	for _, nobodys := range []client.Object{heldLease("ip-10-66-10-1", "team", "", ""), &v1alpha2.VirtualMachineIPAddressLease{}, autoClaim("")} {
		if got := claimOfLease(nobodys); got != nil {
			t.Errorf("%T names %v", nobodys, got)
		}
	}
}

func TestIsHeldBy(t *testing.T) {
	claim := autoClaim("")
	for _, tc := range []struct {
		title string
		lease *v1alpha2.VirtualMachineIPAddressLease
		want  bool
	}{
		{"its own", heldLease("l", "team", "web", "uid-1"), true},
		{"without a uid, as an administrator may have made it", heldLease("l", "team", "web", ""), true},
		{"of the claim before it", heldLease("l", "team", "web", "uid-0"), false},
		{"of a neighbour", heldLease("l", "team", "db", "uid-1"), false},
		{"of a namesake elsewhere", heldLease("l", "other", "web", "uid-1"), false},
		{"released", heldLease("l", "team", "", ""), false},
		{"of nobody", &v1alpha2.VirtualMachineIPAddressLease{}, false},
	} {
		if got := isHeldBy(tc.lease, claim); got != tc.want {
			t.Errorf("%s: %v", tc.title, got)
		}
	}
}

// Reclaiming keeps what else the lease says, and one of two claims wins.
func TestReclaimIsWonByOne(t *testing.T) {
	released := heldLease("ip-10-66-10-5", "team", "", "")
	released.Labels = nil
	released.Annotations = map[string]string{"note": "kept"}
	r := indexed(t, released)
	stale := &v1alpha2.VirtualMachineIPAddressLease{}
	if err := r.client.Get(context.Background(), client.ObjectKeyFromObject(released), stale); err != nil {
		t.Fatal(err)
	}
	first := staticClaim("10.66.10.5", "")
	if err := r.patchReclaim(context.Background(), first, netip.MustParseAddr("10.66.10.5")); err != nil {
		t.Fatal(err)
	}
	second := staticClaim("10.66.10.5", "")
	second.Name, second.UID = "db", "uid-2"
	// The second one decided on what it saw before.
	lagging := interceptor.NewClient(r.client.(client.WithWatch), interceptor.Funcs{
		Get: func(_ context.Context, _ client.WithWatch, _ client.ObjectKey, object client.Object, _ ...client.GetOption) error {
			stale.DeepCopyInto(object.(*v1alpha2.VirtualMachineIPAddressLease))
			return nil
		},
	})
	behind := *r
	behind.client = lagging
	if err := behind.patchReclaim(context.Background(), second, netip.MustParseAddr("10.66.10.5")); !apierrors.IsConflict(err) {
		t.Errorf("got %v, want a conflict", err)
	}
	got := &v1alpha2.VirtualMachineIPAddressLease{}
	if err := r.client.Get(context.Background(), client.ObjectKeyFromObject(released), got); err != nil {
		t.Fatal(err)
	}
	if got.Spec.VirtualMachineIPAddressRef.Name != "web" || got.Annotations["note"] != "kept" {
		t.Errorf("lease %+v", got)
	}
	if err := r.patchReclaim(context.Background(), second, netip.MustParseAddr("10.66.10.6")); !apierrors.IsNotFound(err) {
		t.Errorf("a lease that is gone: %v", err)
	}
}

func TestHeldPrefersWhatIsShown(t *testing.T) {
	held := []v1alpha2.VirtualMachineIPAddressLease{lease("no-address"), lease("ip-10-66-10-2"), lease("ip-10-66-10-3")}
	for shown, want := range map[string]string{"": "10.66.10.2", "10.66.10.3": "10.66.10.3", "10.99.0.1": "10.66.10.2"} {
		if got := pickHeld(Observed{Claim: autoClaim(shown), Held: held}); got.String() != want {
			t.Errorf("shown %q: %s, want %s", shown, got, want)
		}
	}
	if got := pickHeld(Observed{Claim: autoClaim(""), Held: held[:1]}); got.IsValid() {
		t.Errorf("a lease that names no address gives %s", got)
	}
}

func TestReadsThatFail(t *testing.T) {
	broken := errors.New("the server is gone")
	isMachines := func(list client.ObjectList) bool { _, ok := list.(*v1alpha2.VirtualMachineList); return ok }
	for kind, fails := range map[string]func(client.ObjectList) bool{
		"machines": isMachines,
		"leases":   func(list client.ObjectList) bool { return !isMachines(list) },
	} {
		t.Run(kind, func(t *testing.T) {
			r := indexed(t)
			r.client = interceptor.NewClient(r.client.(client.WithWatch), interceptor.Funcs{
				List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if fails(list) {
						return broken
					}
					return c.List(ctx, list, opts...)
				},
			})
			if _, err := r.observe(context.Background(), autoClaim("")); !errors.Is(err, broken) {
				t.Errorf("got %v: an address must not be given away on half the truth", err)
			}
		})
	}
}
