// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// brokenKernel refuses what it is told to.
type brokenKernel struct {
	*fakeKernel
	refuses map[string]error
	dump    error
	probe   error
}

func (k *brokenKernel) Routes() ([]Route, error) {
	routes, err := k.fakeKernel.Routes()
	return routes, errors.Join(err, k.dump)
}

func (k *brokenKernel) Set(route Route) error {
	if err := k.refuses[route.Prefix.String()]; err != nil {
		return err
	}
	return k.fakeKernel.Set(route)
}

func (k *brokenKernel) Remove(route Route) error {
	if err := k.refuses[route.Prefix.String()]; err != nil {
		return err
	}
	return k.fakeKernel.Remove(route)
}

func (k *brokenKernel) SupportsDummy() (bool, error) { return false, k.probe }

func newBroken(t *testing.T, objects ...client.Object) (*Reconciler, *brokenKernel) {
	t.Helper()
	kernel := &brokenKernel{fakeKernel: &fakeKernel{}, refuses: map[string]error{}}
	r := newReconciler(t, kernel.fakeKernel, objects...)
	r.Kernel = kernel
	return r, kernel
}

// One node is out of reach at layer 3: its machines have no route, all others do.
func TestOneBadRouteDoesNotStopTheOthers(t *testing.T) {
	r, kernel := newBroken(t, node("node-1", "10.77.0.1"), node("away", "192.0.2.1"), node("node-3", "10.77.0.3"),
		machine("a", "away", "10.66.10.5"), machine("b", "node-3", "10.66.10.6"), machine("c", "node-1", "10.66.10.7"))
	kernel.refuses["10.66.10.5/32"] = unix.ENETUNREACH
	_, err := r.Reconcile(context.Background(), everything)
	if !errors.Is(err, unix.ENETUNREACH) {
		t.Errorf("got %v: the failure must be tried again", err)
	}
	if got := kernel.get(t, "10.66.10.6/32"); got.Via != addr("10.77.0.3") {
		t.Errorf("the machine behind it has the route %v", got)
	}
	if got := kernel.get(t, "10.66.10.7/32"); got.Kind != RouteLocal {
		t.Errorf("the machine of this node has the route %v", got)
	}
	if len(kernel.rules) != 1 {
		t.Errorf("rules %v: without them no route counts", kernel.rules)
	}
	delete(kernel.refuses, "10.66.10.5/32")
	if _, err := r.Reconcile(context.Background(), everything); err != nil {
		t.Fatal(err)
	}
	if got := kernel.get(t, "10.66.10.5/32"); got.Via != addr("192.0.2.1") {
		t.Errorf("when the node is back: %v", got)
	}
}

func TestRouteThatCannotBeRemoved(t *testing.T) {
	r, kernel := newBroken(t, node("node-1", "10.77.0.1"), machine("web", "node-1", "10.66.10.5"))
	kernel.routes[prefix("10.66.10.9/32")] = Route{Prefix: prefix("10.66.10.9/32"), Kind: RouteLocal}
	kernel.refuses["10.66.10.9/32"] = unix.EPERM
	if _, err := r.Reconcile(context.Background(), everything); !errors.Is(err, unix.EPERM) {
		t.Errorf("got %v", err)
	}
	if got := kernel.get(t, "10.66.10.5/32"); got.Kind != RouteLocal {
		t.Errorf("the other route: %v", got)
	}
}

// Without a dump nothing is known, so nothing may be changed.
func TestNothingIsWrittenBlindly(t *testing.T) {
	r, kernel := newBroken(t, node("node-1", "10.77.0.1"), machine("web", "node-1", "10.66.10.5"))
	kernel.dump = errors.New("interrupted")
	if _, err := r.Reconcile(context.Background(), everything); err == nil || kernel.writes != 0 || kernel.rules != nil {
		t.Errorf("%d writes, rules %v, %v", kernel.writes, kernel.rules, err)
	}
}

func TestReportBindingFails(t *testing.T) {
	key := types.NamespacedName{Namespace: "d8-virtualization", Name: "vm-router-x"}
	r, kernel := newBroken(t)
	if err := r.ReportBinding(context.Background(), key); err == nil || !strings.Contains(err.Error(), "d8-virtualization/vm-router-x") {
		t.Errorf("without the pod: %v", err)
	}
	kernel.probe = unix.EPERM
	if err := r.ReportBinding(context.Background(), key); !errors.Is(err, unix.EPERM) {
		t.Errorf("a probe that was refused says nothing about the kernel: %v", err)
	}
}

func TestInternalAddress(t *testing.T) {
	entry := func(kind corev1.NodeAddressType, address string) corev1.NodeAddress {
		return corev1.NodeAddress{Type: kind, Address: address}
	}
	for _, tc := range []struct {
		title     string
		addresses []corev1.NodeAddress
		want      string
	}{
		{"internal", []corev1.NodeAddress{entry("ExternalIP", "192.0.2.1"), entry("InternalIP", "10.77.0.1")}, "10.77.0.1"},
		{"the first of two families", []corev1.NodeAddress{entry("InternalIP", "10.77.0.1"), entry("InternalIP", "fd00::1")}, "10.77.0.1"},
		{"a name in its place", []corev1.NodeAddress{entry("InternalIP", "node-1"), entry("InternalIP", "10.77.0.1")}, "10.77.0.1"},
		{"external only", []corev1.NodeAddress{entry("ExternalIP", "192.0.2.1")}, ""},
		{"none yet", nil, ""},
	} {
		got, ok := internalAddress(corev1.Node{Status: corev1.NodeStatus{Addresses: tc.addresses}})
		if ok != (tc.want != "") || (ok && got.String() != tc.want) {
			t.Errorf("%s: %s, %v", tc.title, got, ok)
		}
	}
}

func TestRoutesFromAndToTheKernel(t *testing.T) {
	for _, route := range []Route{
		{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal},
		{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole},
		{Prefix: prefix("10.66.10.6/32"), Kind: RouteRemote, Via: addr("10.77.0.2")},
		{Prefix: prefix("fd00::5/128"), Kind: RouteRemote, Via: addr("fd00:1::2")},
	} {
		entry, err := toKernel(route)
		if err != nil {
			t.Fatal(err)
		}
		if entry.Table != 1490 || entry.Protocol != 149 {
			t.Errorf("%v goes into table %d with protocol %d", route, entry.Table, entry.Protocol)
		}
		back, err := fromKernel(*entry)
		if err != nil || back != route {
			t.Errorf("%v came back as %v, %v", route, back, err)
		}
	}
	if _, err := toKernel(Route{Prefix: prefix("10.66.10.5/32"), Kind: RouteDevice, Device: "no-such-device"}); err == nil || !strings.Contains(err.Error(), "no-such-device") {
		t.Errorf("got %v", err)
	}
}

// What this program never writes is a reason to stop, not to guess.
func TestForeignEntriesOfTheTable(t *testing.T) {
	for want, entry := range map[string]netlink.Route{
		"default route":       {Table: Table},
		"gave the address":    {Table: Table, Dst: &net.IPNet{IP: net.IP{1, 2, 3}, Mask: net.CIDRMask(24, 32)}},
		"finding the device ": {Table: Table, Dst: toIPNet(prefix("10.66.10.5/32")), Type: unix.RTN_UNICAST, LinkIndex: 1 << 20},
	} {
		if route, err := fromKernel(entry); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v", want, route, err)
		}
	}
}

func TestPrefixesBothWays(t *testing.T) {
	for _, text := range []string{"10.66.10.0/24", "10.66.10.5/32", "0.0.0.0/0", "fd00::/64"} {
		if got, ok := fromIPNet(toIPNet(prefix(text))); !ok || got != prefix(text) {
			t.Errorf("%s came back as %s, %v", text, got, ok)
		}
	}
	if got, ok := fromIPNet(nil); ok {
		t.Errorf("nothing became %s", got)
	}
	if family(prefix("10.0.0.0/8")) != unix.AF_INET || family(prefix("fd00::/64")) != unix.AF_INET6 {
		t.Error("the families are mixed up")
	}
}

// The kernel says that a dump is not whole when the table changes meanwhile.
func TestInterruptedDumpIsReadAgain(t *testing.T) {
	tries := 0
	got, err := retryDump(func() ([]netip.Addr, error) {
		if tries++; tries < 3 {
			return nil, netlink.ErrDumpInterrupted
		}
		return []netip.Addr{addr("10.66.10.5")}, nil
	})
	if err != nil || len(got) != 1 || tries != 3 {
		t.Errorf("%v, %v after %d tries", got, err, tries)
	}
	tries = 0
	_, err = retryDump(func() ([]netip.Addr, error) { tries++; return nil, netlink.ErrDumpInterrupted })
	if !errors.Is(err, netlink.ErrDumpInterrupted) || tries != 30 {
		t.Errorf("%v after %d tries", err, tries)
	}
	tries = 0
	if _, err := retryDump(func() ([]netip.Addr, error) { tries++; return nil, unix.EPERM }); !errors.Is(err, unix.EPERM) || tries != 1 {
		t.Errorf("%v after %d tries", err, tries)
	}
}
