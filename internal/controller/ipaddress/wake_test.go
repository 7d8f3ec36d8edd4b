// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	clocktesting "k8s.io/utils/clock/testing"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
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
	return &reconciler{client: server, direct: server, addresses: testBook(t), clock: clocktesting.NewFakePassiveClock(start)}
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

// woken are the claims that an event of a lease brings into the queue.
func (r *reconciler) woken(deliver func(handler.EventHandler, queue)) string {
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer q.ShutDown()
	deliver(r.followLeases(), q)
	var requests []reconcile.Request
	for range q.Len() {
		request, _ := q.Get()
		requests = append(requests, request)
	}
	return names(requests)
}

// An address that gets free is news for everybody who waits for one, an address that
// is released for those who wait in its namespace; for those who have one it is none.
func TestWhoIsWokenByALease(t *testing.T) {
	r := indexed(t, claimIn("team", "waits", "Pending"), claimIn("other", "waits", "Pending"), claimIn("team", "has", "Bound"), claimIn("team", "new", ""))
	held, released := heldLease("ip-10-66-10-1", "team", "has", "uid-1"), heldLease("ip-10-66-10-1", "team", "", "")
	ctx := context.Background()
	for _, tc := range []struct {
		title   string
		deliver func(handler.EventHandler, queue)
		want    string
	}{
		{"made", func(h handler.EventHandler, q queue) { h.Create(ctx, event.CreateEvent{Object: held}, q) }, "team/has"},
		{"seen released", func(h handler.EventHandler, q queue) { h.Create(ctx, event.CreateEvent{Object: released}, q) }, ""},
		{"its status", func(h handler.EventHandler, q queue) {
			h.Update(ctx, event.UpdateEvent{ObjectOld: held, ObjectNew: held}, q)
		}, "team/has"},
		{"released", func(h handler.EventHandler, q queue) {
			h.Update(ctx, event.UpdateEvent{ObjectOld: held, ObjectNew: released}, q)
		}, "team/has team/waits"},
		{"still released", func(h handler.EventHandler, q queue) {
			h.Update(ctx, event.UpdateEvent{ObjectOld: released, ObjectNew: released}, q)
		}, ""},
		{"reclaimed", func(h handler.EventHandler, q queue) {
			h.Update(ctx, event.UpdateEvent{ObjectOld: released, ObjectNew: held}, q)
		}, "team/has"},
		{"deleted", func(h handler.EventHandler, q queue) { h.Delete(ctx, event.DeleteEvent{Object: held}, q) }, "other/waits team/has team/waits"},
		{"of nobody", func(h handler.EventHandler, q queue) {
			h.Delete(ctx, event.DeleteEvent{Object: &v1alpha2.VirtualMachineIPAddressLease{}}, q)
		}, "other/waits team/waits"},
	} {
		if got := r.woken(tc.deliver); got != tc.want {
			t.Errorf("%s: %q, want %q", tc.title, got, tc.want)
		}
	}
}

// Who is woken finds the allocator to know what it is woken for.
func TestTheAllocatorFollowsTheLeases(t *testing.T) {
	r, ctx := indexed(t), context.Background()
	held, released := heldLease("ip-10-66-10-1", "team", "has", "uid-1"), heldLease("ip-10-66-10-1", "team", "", "")
	follow := func(title, want string, deliver func(handler.EventHandler, queue)) {
		t.Helper()
		r.woken(deliver)
		usage := r.addresses.Usage()[0]
		if got := fmt.Sprintf("%d held, %d released", usage.Held, usage.Released); got != want {
			t.Errorf("%s: %s, want %s", title, got, want)
		}
	}
	follow("made", "1 held, 0 released", func(h handler.EventHandler, q queue) { h.Create(ctx, event.CreateEvent{Object: held}, q) })
	follow("no address", "1 held, 0 released", func(h handler.EventHandler, q queue) {
		h.Create(ctx, event.CreateEvent{Object: heldLease("nonsense", "team", "x", "")}, q)
	})
	follow("released", "0 held, 1 released", func(h handler.EventHandler, q queue) {
		h.Update(ctx, event.UpdateEvent{ObjectOld: held, ObjectNew: released}, q)
	})
	follow("deleted", "0 held, 0 released", func(h handler.EventHandler, q queue) { h.Delete(ctx, event.DeleteEvent{Object: released}, q) })
	follow("deleted by hand, kept for its claim", "1 held, 0 released", func(h handler.EventHandler, q queue) {
		h.Delete(ctx, event.DeleteEvent{Object: held}, q)
	})
	follow("deleted, no address", "1 held, 0 released", func(h handler.EventHandler, q queue) {
		h.Delete(ctx, event.DeleteEvent{Object: heldLease("nonsense", "team", "x", "")}, q)
	})
}

// A claim that starts to wait looks once more: the address may have got free before
// the cache knew that somebody waits for it.
func TestStartingToWaitIsNews(t *testing.T) {
	p := startsToWait()
	waits, has := claimIn("team", "web", "Pending"), claimIn("team", "web", "Bound")
	for _, tc := range []struct {
		title       string
		before, now *v1alpha2.VirtualMachineIPAddress
		want        bool
	}{
		{"starts", claimIn("team", "web", ""), waits, true}, {"loses its address", has, waits, true},
		{"waits on", waits, waits, false}, {"has one now", waits, has, false}, {"has it", has, has, false},
	} {
		if got := p.Update(event.UpdateEvent{ObjectOld: tc.before, ObjectNew: tc.now}); got != tc.want {
			t.Errorf("%s: %v", tc.title, got)
		}
	}
	if p.Create(event.CreateEvent{Object: waits}) || p.Delete(event.DeleteEvent{Object: waits}) || p.Generic(event.GenericEvent{Object: waits}) {
		t.Error("other events are the other predicate's")
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
