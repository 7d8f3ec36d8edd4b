// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"log/slog"
	"net/netip"
	"reflect"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// fakeKernel is a table in memory that counts writes.
type fakeKernel struct {
	routes map[netip.Prefix]Route
	rules  []netip.Prefix
	device string
	dummy  bool
	writes int
}

func (k *fakeKernel) Routes() ([]Route, error) {
	var out []Route
	for _, route := range k.routes {
		out = append(out, route)
	}
	return out, nil
}

func (k *fakeKernel) Set(route Route) error {
	k.writes++
	k.routes[route.Prefix] = route
	return nil
}

func (k *fakeKernel) Remove(route Route) error {
	k.writes++
	delete(k.routes, route.Prefix)
	return nil
}

func (k *fakeKernel) SetRules(ranges []netip.Prefix) error { k.rules = ranges; return nil }
func (k *fakeKernel) HasDevice(name string) (bool, error)  { return k.device == name, nil }
func (k *fakeKernel) SupportsDummy() (bool, error)         { return k.dummy, nil }
func (k *fakeKernel) get(t *testing.T, address string) Route {
	t.Helper()
	return k.routes[prefix(address)]
}

func newReconciler(t *testing.T, kernel *fakeKernel, objects ...client.Object) *Reconciler {
	t.Helper()
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			t.Fatal(err)
		}
	}
	kernel.routes = map[netip.Prefix]Route{}
	return &Reconciler{
		Client: fake.NewClientBuilder().WithScheme(scheme).WithObjects(objects...).
			WithStatusSubresource(&corev1.Pod{}, &v1alpha2.VirtualMachine{}).Build(),
		Kernel: kernel, Log: slog.New(slog.DiscardHandler), Node: "node-1", Ranges: []netip.Prefix{prefix("10.66.10.0/24")},
	}
}

func node(name, address string) *corev1.Node {
	return &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{
			{Type: corev1.NodeHostName, Address: name}, {Type: corev1.NodeInternalIP, Address: address},
		}},
	}
}

func machine(name, node, address string) *v1alpha2.VirtualMachine {
	m := &v1alpha2.VirtualMachine{ObjectMeta: metav1.ObjectMeta{Namespace: "team", Name: name}}
	m.Status.NodeName, m.Status.IPAddress = node, address
	return m
}

func TestReconcileFollowsAMachineThatMoves(t *testing.T) {
	kernel := &fakeKernel{}
	r := newReconciler(t, kernel, node("node-1", "10.77.0.1"), node("node-2", "10.77.0.2"),
		machine("web", "node-1", "10.66.10.5"), machine("starting", "", "10.66.10.6"), machine("waiting", "node-2", ""))
	reconcile := func() {
		t.Helper()
		if _, err := r.Reconcile(context.Background(), everything); err != nil {
			t.Fatal(err)
		}
	}
	reconcile()
	if got := kernel.get(t, "10.66.10.5/32"); got.Kind != RouteLocal {
		t.Errorf("on this node: got %v", got)
	}
	if len(kernel.routes) != 2 || !reflect.DeepEqual(kernel.rules, r.Ranges) {
		t.Errorf("routes %v, rules %v", kernel.routes, kernel.rules)
	}
	web := machine("web", "", "")
	if err := r.Client.Get(context.Background(), client.ObjectKeyFromObject(web), web); err != nil {
		t.Fatal(err)
	}
	web.Status.NodeName = "node-2"
	if err := r.Client.Status().Update(context.Background(), web); err != nil {
		t.Fatal(err)
	}
	reconcile()
	if got := kernel.get(t, "10.66.10.5/32"); got.Via != addr("10.77.0.2") {
		t.Errorf("after the move: got %v", got)
	}
	kernel.writes = 0
	reconcile()
	if kernel.writes != 0 {
		t.Errorf("%d writes with nothing to change", kernel.writes)
	}
	if err := r.Client.Delete(context.Background(), web); err != nil {
		t.Fatal(err)
	}
	reconcile()
	if len(kernel.routes) != 1 {
		t.Errorf("after deletion: %v", kernel.routes)
	}
}

func TestReconcileFindsCilium(t *testing.T) {
	kernel := &fakeKernel{device: "cilium_host"}
	r := newReconciler(t, kernel, node("node-1", "10.77.0.1"), machine("web", "node-1", "10.66.10.5"))
	if _, err := r.Reconcile(context.Background(), everything); err != nil {
		t.Fatal(err)
	}
	if got := kernel.get(t, "10.66.10.5/32"); got.Kind != RouteDevice || got.Device != "cilium_host" {
		t.Errorf("got %v", got)
	}
}

func TestReportBinding(t *testing.T) {
	for _, tc := range []struct {
		dummy  bool
		status corev1.ConditionStatus
		reason string
	}{{true, corev1.ConditionTrue, "DummyDevices"}, {false, corev1.ConditionFalse, "NoDummyDevices"}} {
		own := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: "d8-virtualization", Name: "vm-router-x"},
			Status:     corev1.PodStatus{Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}},
		}
		r := newReconciler(t, &fakeKernel{dummy: tc.dummy}, own)
		key := types.NamespacedName{Namespace: "d8-virtualization", Name: "vm-router-x"}
		if err := r.ReportBinding(context.Background(), key); err != nil {
			t.Fatal(err)
		}
		if err := r.Client.Get(context.Background(), key, own); err != nil {
			t.Fatal(err)
		}
		found := map[corev1.PodConditionType]corev1.PodCondition{}
		for _, condition := range own.Status.Conditions {
			found[condition.Type] = condition
		}
		got := found["virtualization.deckhouse.io/BridgeBinding"]
		if got.Status != tc.status || got.Reason != tc.reason || len(found) != 2 {
			t.Errorf("dummy %v: conditions %v", tc.dummy, own.Status.Conditions)
		}
	}
}
