// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"reflect"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace runs the test in a network namespace of its own that vanishes with
// its thread.
func inNamespace(t *testing.T) {
	t.Helper()
	runtime.LockOSThread() // never unlocked: the thread must not be used again
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("making a network namespace: %v (these tests need root)", err)
	}
	device := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "peer"}
	if err := netlink.LinkAdd(device); err != nil {
		t.Fatal(err)
	}
	address, err := netlink.ParseAddr("10.77.0.1/24")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(device, address); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"lo", "eth0", "peer"} {
		link, err := netlink.LinkByName(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetUp(link); err != nil {
			t.Fatal(err)
		}
	}
}

func TestKernelKeepsWhatIsSet(t *testing.T) {
	inNamespace(t)
	want := []Route{
		{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole},
		{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal},
		{Prefix: prefix("10.66.10.6/32"), Kind: RouteRemote, Via: addr("10.77.0.2")},
		{Prefix: prefix("10.66.10.7/32"), Kind: RouteDevice, Device: "eth0"},
	}
	foreign := &netlink.Route{Dst: toIPNet(prefix("10.66.10.99/32")), Table: Table, Protocol: 4, Type: unix.RTN_BLACKHOLE}
	if err := netlink.RouteAdd(foreign); err != nil {
		t.Fatal(err)
	}
	kernel := Kernel{}
	for _, route := range want {
		if err := kernel.Set(route); err != nil {
			t.Fatal(err)
		}
	}
	got, err := kernel.Routes()
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v, %v; want %v", got, err, want)
	}
	moved := Route{Prefix: prefix("10.66.10.5/32"), Kind: RouteRemote, Via: addr("10.77.0.2")}
	if err := kernel.Set(moved); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the second time it is gone already
		if err := kernel.Remove(want[2]); err != nil {
			t.Fatal(err)
		}
	}
	got, err = kernel.Routes()
	if err != nil || !reflect.DeepEqual(got, []Route{want[0], moved, want[3]}) {
		t.Errorf("got %v, %v", got, err)
	}
	if left, err := netlink.RouteListFiltered(netlink.FAMILY_V4, foreign, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL); err != nil || len(left) != 1 {
		t.Errorf("somebody else's route: %v, %v", left, err)
	}
}

func TestKernelRulesFollowTheRanges(t *testing.T) {
	inNamespace(t)
	kernel := Kernel{}
	for _, ranges := range [][]string{{"10.66.10.0/24", "10.66.20.0/24"}, {"10.66.20.0/24"}, {"10.66.20.0/24"}, nil} {
		parsed, err := ParseRanges(ranges)
		if err != nil {
			t.Fatal(err)
		}
		if err := kernel.SetRules(parsed); err != nil {
			t.Fatal(err)
		}
		rules, err := netlink.RuleListFiltered(netlink.FAMILY_V4, &netlink.Rule{Table: Table}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, rule := range rules {
			got = append(got, rule.Dst.String())
		}
		if len(got) != len(ranges) {
			t.Errorf("rules: got %v, want %v", got, ranges)
		}
	}
}

// TestTrafficTakesTheTable asks the kernel where it would send packets.
func TestTrafficTakesTheTable(t *testing.T) {
	inNamespace(t)
	kernel := Kernel{}
	ranges := []netip.Prefix{prefix("10.66.10.0/24")}
	for _, route := range []Route{
		{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole},
		{Prefix: prefix("10.66.10.6/32"), Kind: RouteRemote, Via: addr("10.77.0.2")},
	} {
		if err := kernel.Set(route); err != nil {
			t.Fatal(err)
		}
	}
	if err := kernel.SetRules(ranges); err != nil {
		t.Fatal(err)
	}
	routes, err := netlink.RouteGet(addr("10.66.10.6").AsSlice())
	if err != nil || len(routes) != 1 || routes[0].Gw.String() != "10.77.0.2" {
		t.Errorf("to a machine: %v, %v", routes, err)
	}
	if routes, err := netlink.RouteGet(addr("10.66.10.8").AsSlice()); err == nil {
		t.Errorf("an address that nobody has is routed: %v", routes)
	}
}

func TestHasDeviceAndDummy(t *testing.T) {
	inNamespace(t)
	kernel := Kernel{}
	if got, err := kernel.HasDevice("eth0"); err != nil || !got {
		t.Errorf("eth0: %v, %v", got, err)
	}
	if got, err := kernel.HasDevice("cilium_host"); err != nil || got {
		t.Errorf("cilium_host: %v, %v", got, err)
	}
	// The answer depends on the kernel; it must come without an error and leave
	// nothing behind.
	if _, err := kernel.SupportsDummy(); err != nil {
		t.Error(err)
	}
	if got, err := kernel.HasDevice("d8v-probe"); err != nil || got {
		t.Errorf("the probe is still there: %v, %v", got, err)
	}
}
