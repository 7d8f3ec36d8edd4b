// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	clocktesting "k8s.io/utils/clock/testing"
	virtv1 "kubevirt.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// fakeKernel is a table in memory that counts writes and refuses what it is told to.
type fakeKernel struct {
	routes  map[netip.Prefix]Route
	rules   []netip.Prefix
	hops    map[netip.Addr]Hop
	device  string
	writes  int
	order   []string
	refuses map[string]error
	dump    error
}

func (k *fakeKernel) Routes() ([]Route, error) {
	var out []Route
	for _, route := range k.routes {
		out = append(out, route)
	}
	return out, k.dump
}

func (k *fakeKernel) Set(route Route) error {
	if err := k.refuses[route.Prefix.String()]; err != nil {
		return err
	}
	k.writes++
	k.order = append(k.order, "set "+route.Prefix.String())
	k.routes[route.Prefix] = route
	return nil
}

func (k *fakeKernel) Remove(route Route) error {
	if err := k.refuses[route.Prefix.String()]; err != nil {
		return err
	}
	k.writes++
	k.order = append(k.order, "remove "+route.Prefix.String())
	delete(k.routes, route.Prefix)
	return nil
}

func (k *fakeKernel) SetRules(ranges []netip.Prefix) error {
	k.order = append(k.order, "rules")
	k.rules = ranges
	return k.refuses["rules"]
}

func (k *fakeKernel) Resolve(address netip.Addr) (Hop, error) {
	if err := k.refuses[address.String()]; err != nil {
		return Hop{}, err
	}
	hop, ok := k.hops[address]
	if !ok {
		hop = Hop{Device: "eth0"}
	}
	return hop, nil
}

func (k *fakeKernel) HasDevice(name string) (bool, error) {
	return k.device == name, k.refuses["device"]
}

func (k *fakeKernel) get(address string) Route { return k.routes[prefix(address)] }

// world is a reconciler with everything around it.
type world struct {
	*Reconciler
	kernel *fakeKernel
	clock  *clocktesting.FakeClock
}

func newWorld(t *testing.T, objects ...client.Object) *world {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme, virtv1.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	objects = append(objects, &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: "vm-router-x"}})
	api := fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
		WithStatusSubresource(&corev1.Pod{}, &corev1.Node{}, &v1alpha2.VirtualMachine{}).Build()
	now := clocktesting.NewFakeClock(time.Unix(1000, 0))
	w := &world{kernel: &fakeKernel{routes: map[netip.Prefix]Route{}, hops: map[netip.Addr]Hop{}, refuses: map[string]error{}}, clock: now}
	counted := NewMetrics(now)
	w.Reconciler = &Reconciler{
		Client: api, Kernel: w.kernel, Log: slog.New(slog.DiscardHandler), Clock: now, Node: "node-1",
		Ranges:   []netip.Prefix{prefix("10.66.10.0/24"), prefix("fd66::/64")},
		Reporter: &Reporter{Client: api, Clock: now, Pod: types.NamespacedName{Namespace: "d8-virtualization", Name: "vm-router-x"}},
		Metrics:  counted, Moves: &Moves{Log: slog.New(slog.DiscardHandler), Clock: now, Metrics: counted},
		watchCilium: func() (bool, error) { return true, nil },
	}
	return w
}

func (w *world) reconcile(t *testing.T) {
	t.Helper()
	if _, err := w.Reconcile(context.Background(), everything); err != nil {
		t.Fatal(err)
	}
}

// condition is what the own pod says of the routes.
func (w *world) condition(t *testing.T) corev1.PodCondition {
	t.Helper()
	pod := &corev1.Pod{}
	if err := w.Client.Get(context.Background(), w.Reporter.Pod, pod); err != nil {
		t.Fatal(err)
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == "virtualization.deckhouse.io/Routes" {
			return condition
		}
	}
	return corev1.PodCondition{}
}

func node(name string, addresses ...string) *corev1.Node {
	out := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	out.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: name}}
	for _, address := range addresses {
		out.Status.Addresses = append(out.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: address})
	}
	return out
}

func machine(name, address string) *v1alpha2.VirtualMachine {
	m := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	m.Status.IPAddress = address
	return m
}

func guest(name, node string) *virtv1.VirtualMachineInstance {
	g := &virtv1.VirtualMachineInstance{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name, UID: types.UID(name)}}
	g.Status.Phase, g.Status.NodeName = virtv1.Running, node
	return g
}

func (w *world) update(t *testing.T, objects ...client.Object) {
	t.Helper()
	for _, object := range objects {
		if err := w.Client.Update(context.Background(), object); err != nil {
			t.Fatal(err)
		}
	}
}

func TestReconcileFollowsAGuestThatMoves(t *testing.T) {
	web := guest("web", "node-1")
	w := newWorld(t, node("node-1", "10.77.0.1"), node("node-2", "10.77.0.2"), web, machine("web", "10.66.10.5"),
		machine("stopped", "10.66.10.6"), guest("waiting", "node-2"), machine("waiting", ""), guest("foreign", "node-2"))
	w.reconcile(t)
	if got := w.kernel.get("10.66.10.5/32"); got.Kind != RouteLocal {
		t.Errorf("on this node: got %v", got)
	}
	if len(w.kernel.routes) != 3 || !reflect.DeepEqual(w.kernel.rules, w.Ranges) {
		t.Errorf("routes %v, rules %v", w.kernel.routes, w.kernel.rules)
	}
	if got := w.condition(t); got.Status != "True" || got.Reason != "NodeAddresses" {
		t.Errorf("condition %+v", got)
	}
	web.Status.MigrationState = &virtv1.VirtualMachineInstanceMigrationState{SourceNode: "node-1", TargetNode: "node-2"}
	w.update(t, web)
	w.reconcile(t)
	if got := w.kernel.get("10.66.10.5/32"); got.Kind != RouteLocal {
		t.Errorf("while only the pod is there: got %v", got)
	}
	now := metav1.Now()
	web.Status.MigrationState.TargetNodeDomainReadyTimestamp = &now
	w.update(t, web)
	w.reconcile(t)
	if got, want := w.kernel.get("10.66.10.5/32"), remote("10.66.10.5/32", "10.77.0.2"); got != want {
		t.Errorf("after the move: got %v", got)
	}
	w.kernel.writes = 0
	w.reconcile(t)
	if w.kernel.writes != 0 {
		t.Errorf("%d writes with nothing to change", w.kernel.writes)
	}
	if err := w.Client.Delete(context.Background(), web); err != nil {
		t.Fatal(err)
	}
	w.reconcile(t)
	if len(w.kernel.routes) != 2 {
		t.Errorf("after the guest ended: %v", w.kernel.routes)
	}
}

// A range that leaves the settings takes its routes along, and a new one has its
// routes before traffic is sent there.
func TestRangesChange(t *testing.T) {
	w := newWorld(t, node("node-1", "10.77.0.1"), guest("a", "node-1"), machine("a", "10.66.10.5"), guest("b", "node-1"), machine("b", "10.66.20.5"))
	w.reconcile(t)
	w.Ranges, w.kernel.order = []netip.Prefix{prefix("10.66.20.0/24")}, nil
	w.reconcile(t)
	if !reflect.DeepEqual(w.kernel.rules, w.Ranges) || len(w.kernel.routes) != 2 || w.kernel.get("10.66.20.5/32").Kind != RouteLocal {
		t.Errorf("rules %v, routes %v", w.kernel.rules, w.kernel.routes)
	}
	order := strings.Join(w.kernel.order[:3], ", ")
	if order != "set 10.66.20.0/24, set 10.66.20.5/32, rules" || len(w.kernel.order) != 6 {
		t.Errorf("order: %v", w.kernel.order)
	}
}

func TestReconcileOnCilium(t *testing.T) {
	w := newWorld(t, node("node-1", "10.77.0.1"), node("node-2", "10.77.0.2"), ciliumNodeOf("node-2", "10.244.2.7", "fd24::7"),
		guest("a", "node-1"), machine("a", "10.66.10.5"), guest("b", "node-2"), machine("b", "10.66.10.6"),
		guest("c", "node-2"), machine("c", "fd66::7"), guest("d", "node-3"), machine("d", "10.66.10.8"))
	w.kernel.device = "cilium_host"
	tunnel := Hop{Via: addr("10.244.1.1"), Device: "cilium_host", Source: addr("10.244.1.1"), MTU: 1450}
	w.kernel.hops = map[netip.Addr]Hop{addr("10.244.2.7"): tunnel, addr("fd24::7"): {Device: "cilium_host"}}
	w.reconcile(t)
	if got := w.kernel.get("10.66.10.5/32"); got.Kind != RouteDevice || got.Hop != (Hop{Device: "cilium_host"}) {
		t.Errorf("here: %v", got)
	}
	if got := w.kernel.get("10.66.10.6/32"); got.Kind != RouteRemote || got.Hop != tunnel {
		t.Errorf("elsewhere: %v", got)
	}
	if got := w.kernel.get("fd66::7/128"); got.Kind != RouteDevice {
		t.Errorf("elsewhere by IPv6: %v", got)
	}
	if got := w.condition(t); got.Status != "False" || !strings.Contains(got.Message, "10.66.10.8 team/d: its node has no address of this family") {
		t.Errorf("condition %+v", got)
	}
	// Without Cilium's API its device says nothing.
	w.watchCilium = func() (bool, error) { return false, nil }
	w.reconcile(t)
	if got := w.kernel.get("10.66.10.6/32"); got.Hop.Via != addr("10.77.0.2") {
		t.Errorf("without CiliumNodes: %v", got)
	}
}

// One node is behind a router, one is off, one has no address yet: their machines
// have no route, all others do.
func TestNodesThatAreNotReached(t *testing.T) {
	w := newWorld(t, node("node-1", "10.77.0.1"), node("away", "192.0.2.1"), node("off", "10.77.0.4"), node("new"), node("node-3", "10.77.0.3"),
		guest("a", "away"), machine("a", "10.66.10.5"), guest("b", "off"), machine("b", "10.66.10.6"), guest("c", "new"), machine("c", "10.66.10.7"),
		guest("d", "node-3"), machine("d", "10.66.10.8"))
	w.kernel.hops[addr("192.0.2.1")] = Hop{Via: addr("10.77.0.254"), Device: "eth0"}
	w.kernel.refuses["10.77.0.4"] = errUnreachable
	w.reconcile(t)
	if got := w.kernel.get("10.66.10.8/32"); got.Hop.Via != addr("10.77.0.3") || len(w.kernel.routes) != 3 {
		t.Errorf("routes %v", w.kernel.routes)
	}
	w.clock.Step(10 * time.Second)
	if got := testutil.ToFloat64(only(t, w.Metrics, "d8_virtualization_router_unreachable_seconds_total", "NodeNotAdjacent")); got != 10 {
		t.Errorf("%v seconds", got)
	}
	got := w.condition(t)
	for _, want := range []string{"10.66.10.5 team/a: its node is behind a router", "10.66.10.6 team/b: this node has no route", "10.66.10.7 team/c: its node has no address"} {
		if !strings.Contains(got.Message, want) || got.Reason != "Unrouted" {
			t.Errorf("%q is not in %+v", want, got)
		}
	}
	// The node gets its address, and the link comes back.
	w.update(t)
	known := node("new")
	if err := w.Client.Get(context.Background(), client.ObjectKeyFromObject(known), known); err != nil {
		t.Fatal(err)
	}
	known.Status.Addresses = node("new", "10.77.0.5").Status.Addresses
	if err := w.Client.Status().Update(context.Background(), known); err != nil {
		t.Fatal(err)
	}
	delete(w.kernel.refuses, "10.77.0.4")
	w.reconcile(t)
	if w.kernel.get("10.66.10.6/32").Hop.Via != addr("10.77.0.4") || w.kernel.get("10.66.10.7/32").Hop.Via != addr("10.77.0.5") {
		t.Errorf("afterwards: %v", w.kernel.routes)
	}
}

func TestOneRefusedRouteDoesNotStopTheOthers(t *testing.T) {
	w := newWorld(t, node("node-1", "10.77.0.1"), guest("a", "node-1"), machine("a", "10.66.10.5"), guest("b", "node-1"), machine("b", "10.66.10.6"))
	w.kernel.refuses["10.66.10.5/32"] = unix.EPERM
	if _, err := w.Reconcile(context.Background(), everything); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v: the failure must be tried again", err)
	}
	if w.kernel.get("10.66.10.6/32").Kind != RouteLocal || len(w.kernel.rules) != 2 {
		t.Errorf("routes %v, rules %v", w.kernel.routes, w.kernel.rules)
	}
	if got := w.condition(t); !strings.Contains(got.Message, "10.66.10.5") || !strings.Contains(got.Message, "the kernel refused") {
		t.Errorf("condition %+v", got)
	}
	delete(w.kernel.refuses, "10.66.10.5/32")
	w.reconcile(t)
	if got := w.condition(t); w.kernel.get("10.66.10.5/32").Kind != RouteLocal || got.Status != "True" {
		t.Errorf("routes %v, condition %+v", w.kernel.routes, got)
	}
}

func TestRouteThatCannotBeRemoved(t *testing.T) {
	w := newWorld(t, node("node-1", "10.77.0.1"), guest("a", "node-1"), machine("a", "10.66.10.5"))
	w.kernel.routes[prefix("10.66.10.9/32")] = Route{Prefix: prefix("10.66.10.9/32"), Kind: RouteLocal}
	w.kernel.refuses["10.66.10.9/32"] = unix.EPERM
	if _, err := w.Reconcile(context.Background(), everything); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
	if got := w.kernel.get("10.66.10.5/32"); got.Kind != RouteLocal {
		t.Errorf("the other route: %v", got)
	}
}

// What is not known must not be guessed: no dump, no answer about devices or ways, no
// rules.
func TestNothingIsWrittenBlindly(t *testing.T) {
	for _, tc := range []struct {
		what string
		fail func(*fakeKernel)
	}{
		{"dump", func(k *fakeKernel) { k.dump = unix.EBUSY }},
		{"device", func(k *fakeKernel) { k.refuses["device"] = unix.EBUSY }},
		{"way", func(k *fakeKernel) { k.refuses["10.77.0.2"] = unix.EBUSY }},
	} {
		w := newWorld(t, node("node-1", "10.77.0.1"), node("node-2", "10.77.0.2"), guest("a", "node-2"), machine("a", "10.66.10.5"))
		tc.fail(w.kernel)
		if _, err := w.Reconcile(context.Background(), everything); !errors.Is(err, unix.EBUSY) || w.kernel.writes != 0 || w.kernel.rules != nil {
			t.Errorf("%s: %d writes, rules %v, %v", tc.what, w.kernel.writes, w.kernel.rules, err)
		}
	}
	w := newWorld(t)
	w.kernel.refuses["rules"] = unix.EBUSY
	if _, err := w.Reconcile(context.Background(), everything); !errors.Is(err, unix.EBUSY) {
		t.Errorf("rules: %v", err)
	}
}

// A router that starts has nothing to remember: what its predecessor left stays, and
// only what is wrong is changed.
func TestStartDropsNoRoute(t *testing.T) {
	w := newWorld(t, node("node-1", "10.77.0.1"), node("node-2", "10.77.0.2"), guest("a", "node-1"), machine("a", "10.66.10.5"), guest("b", "node-2"), machine("b", "10.66.10.6"))
	w.reconcile(t)
	next := newWorld(t, node("node-1", "10.77.0.1"), node("node-2", "10.77.0.2"), guest("a", "node-1"), machine("a", "10.66.10.5"), guest("b", "node-1"), machine("b", "10.66.10.6"))
	next.kernel.routes = w.kernel.routes
	next.reconcile(t)
	if !reflect.DeepEqual(next.kernel.order, []string{"set 10.66.10.6/32", "rules"}) {
		t.Errorf("it did %v", next.kernel.order)
	}
}

func TestWithoutItsPodTheRouterStillRoutes(t *testing.T) {
	w := newWorld(t, node("node-1", "10.77.0.1"), guest("a", "node-1"), machine("a", "10.66.10.5"))
	w.Reporter.Pod.Name = "gone"
	if _, err := w.Reconcile(context.Background(), everything); err == nil || !strings.Contains(err.Error(), "d8-virtualization/gone") {
		t.Errorf("got %v", err)
	}
	if got := w.kernel.get("10.66.10.5/32"); got.Kind != RouteLocal {
		t.Errorf("routes %v", w.kernel.routes)
	}
}
