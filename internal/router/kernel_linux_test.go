// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// set writes routes and dumps the table.
func set(t testing.TB, kernel *Kernel, routes ...Route) []Route {
	t.Helper()
	for _, route := range routes {
		if err := kernel.Set(route); err != nil {
			t.Fatal(err)
		}
	}
	got, err := kernel.Routes()
	if err != nil {
		t.Fatal(err)
	}
	return sorted(got)
}

func TestKernelKeepsWhatIsSet(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	want := []Route{
		{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole},
		{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal},
		remote("10.66.10.6/32", "10.77.0.2"),
		{Prefix: prefix("10.66.10.7/32"), Kind: RouteDevice, Hop: Hop{Device: "eth0"}},
		{Prefix: prefix("10.66.10.8/32"), Kind: RouteRemote, Hop: Hop{Via: addr("10.77.0.2"), Device: "eth0", Source: addr("10.77.0.1"), MTU: 1400}},
		{Prefix: prefix("fd66::/64"), Kind: RouteBlackhole},
		{Prefix: prefix("fd66::5/128"), Kind: RouteLocal},
		remote("fd66::6/128", "fd77::2"),
		{Prefix: prefix("fd66::7/128"), Kind: RouteDevice, Hop: Hop{Device: "eth0"}},
		{Prefix: prefix("fd66::8/128"), Kind: RouteRemote, Hop: Hop{Via: addr("fd77::2"), Device: "eth0", MTU: 1400}},
	}
	if got := set(t, kernel, want...); !reflect.DeepEqual(got, want) {
		t.Fatalf("got %v\nwant %v", got, want)
	}
	for _, route := range want {
		for range 2 { // the second time it is gone already
			if err := kernel.Remove(route); err != nil {
				t.Fatal(err)
			}
		}
	}
	if got := set(t, kernel); len(got) != 0 {
		t.Errorf("left: %v", got)
	}
}

// A machine that moves here and there: each state takes the place of the one before.
func TestKernelReplaces(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	for _, states := range [][]Route{
		{
			{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal}, remote("10.66.10.5/32", "10.77.0.2"),
			{Prefix: prefix("10.66.10.5/32"), Kind: RouteDevice, Hop: Hop{Device: "eth0"}}, {Prefix: prefix("10.66.10.5/32"), Kind: RouteBlackhole},
			remote("10.66.10.5/32", "10.77.0.3"), {Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal},
		},
		{
			{Prefix: prefix("fd66::5/128"), Kind: RouteLocal}, remote("fd66::5/128", "fd77::2"),
			{Prefix: prefix("fd66::5/128"), Kind: RouteDevice, Hop: Hop{Device: "eth0"}}, {Prefix: prefix("fd66::5/128"), Kind: RouteBlackhole},
			remote("fd66::5/128", "fd77::3"), {Prefix: prefix("fd66::5/128"), Kind: RouteLocal},
		},
	} {
		for _, state := range states {
			if got := set(t, kernel, state); !reflect.DeepEqual(got, []Route{state}) {
				t.Errorf("got %v, want only %v", got, state)
			}
		}
		if err := kernel.Remove(states[0]); err != nil {
			t.Fatal(err)
		}
	}
}

// What others put into the table stays; what has our mark but is not ours goes.
func TestForeignRoutes(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	theirs := &netlink.Route{Dst: toIPNet(prefix("10.66.10.99/32")), Table: Table, Protocol: 4, Type: unix.RTN_BLACKHOLE}
	strange := []*netlink.Route{
		{Dst: toIPNet(prefix("0.0.0.0/0")), Gw: addr("10.77.0.2").AsSlice(), Table: Table, Protocol: protocol},
		{Dst: toIPNet(prefix("10.66.10.98/32")), Table: Table, Protocol: protocol, Type: unix.RTN_PROHIBIT},
		{Dst: toIPNet(prefix("10.66.10.97/32")), Table: Table, Protocol: protocol, MultiPath: []*netlink.NexthopInfo{
			{Gw: addr("10.77.0.2").AsSlice()}, {Gw: addr("10.77.0.3").AsSlice()},
		}},
	}
	for _, route := range append(strange, theirs) {
		if err := kernel.handle.RouteAdd(route); err != nil {
			t.Fatal(err)
		}
	}
	found := set(t, kernel)
	if len(found) != 3 {
		t.Errorf("found %v", found)
	}
	_, stale := Diff(found, nil)
	for _, route := range stale {
		if err := kernel.Remove(route); err != nil {
			t.Error(err)
		}
	}
	if left := set(t, kernel); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
	left, err := kernel.handle.RouteListFiltered(netlink.FAMILY_V4, theirs, netlink.RT_FILTER_TABLE)
	if err != nil || len(left) != 1 {
		t.Errorf("somebody else's route: %v, %v", left, err)
	}
}

func TestKernelRulesFollowTheRanges(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	theirs := netlink.NewRule()
	theirs.Src, theirs.Table, theirs.Priority = toIPNet(prefix("10.1.0.0/16")), Table, 2000
	if err := kernel.handle.RuleAdd(theirs); err != nil {
		t.Fatal(err)
	}
	for _, ranges := range [][]string{
		{"10.66.10.0/24", "10.66.20.0/24", "fd66::/64"}, {"10.66.20.0/24", "fd66::/64"}, {"10.66.20.0/24", "fd66::/64"}, {"10.66.16.0/20"}, nil,
	} {
		parsed, err := ParseRanges(ranges)
		if err != nil {
			t.Fatal(err)
		}
		if err := kernel.SetRules(parsed); err != nil {
			t.Fatal(err)
		}
		rules, err := kernel.rules()
		if err != nil {
			t.Fatal(err)
		}
		var got []netip.Prefix
		for _, rule := range rules {
			if found, ok := fromIPNet(rule.Dst); ok && rule.Priority == 1490 && rule.Protocol == 149 {
				got = append(got, found)
			}
		}
		if len(rules) != len(ranges)+1 || len(got) != len(ranges) {
			t.Errorf("rules for %v, want %v and the foreign one: %v", got, ranges, rules)
		}
	}
}

// A rule that an older version left, without the mark, is taken for ours.
func TestRuleWithoutMark(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	old := netlink.NewRule()
	old.Dst, old.Table, old.Priority = toIPNet(prefix("10.66.10.0/24")), Table, rulePriority
	if err := kernel.handle.RuleAdd(old); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := kernel.SetRules([]netip.Prefix{prefix("10.66.10.0/24")}); err != nil {
			t.Fatal(err)
		}
	}
	if rules, err := kernel.rules(); err != nil || len(rules) != 1 {
		t.Errorf("%v, %v", rules, err)
	}
}

// TestTrafficTakesTheTable asks the kernel where it would send packets.
func TestTrafficTakesTheTable(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	set(t, kernel, hole4, remote("10.66.10.6/32", "10.77.0.2"), hole6, remote("fd66::6/128", "fd77::2"))
	if err := kernel.SetRules([]netip.Prefix{prefix("10.66.10.0/24"), prefix("fd66::/64")}); err != nil {
		t.Fatal(err)
	}
	for address, via := range map[string]string{"10.66.10.6": "10.77.0.2", "fd66::6": "fd77::2"} {
		routes, err := kernel.handle.RouteGet(addr(address).AsSlice())
		if err != nil || len(routes) != 1 || routes[0].Gw.String() != via {
			t.Errorf("to a machine: %v, %v", routes, err)
		}
	}
	for _, address := range []string{"10.66.10.8", "fd66::8"} {
		if routes, err := kernel.handle.RouteGet(addr(address).AsSlice()); err == nil {
			t.Errorf("an address that nobody has is routed: %v", routes)
		}
	}
	if err := kernel.Clear(); err != nil {
		t.Fatal(err)
	}
	rules, err := kernel.rules()
	if left := set(t, kernel); len(left) != 0 || len(rules) != 0 || err != nil {
		t.Errorf("left: %v, %v, %v", left, rules, err)
	}
	if err := kernel.Clear(); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestResolve(t *testing.T) {
	node, _ := newNode(t)
	cable(t, node, "cilium_host", newNamespace(t), "cilium_net")
	node.address("cilium_host", "10.244.1.1/32")
	node.route("10.244.1.1/32", "", "cilium_host")
	node.route("10.244.2.0/24", "10.244.1.1", "cilium_host")
	node.route("192.0.2.0/24", "10.77.0.254", "eth0")
	node.route("fd24::/64", "", "cilium_host")
	kernel := node.kernel()
	for address, want := range map[string]Hop{
		"10.77.0.2":  {Device: "eth0"},
		"fd77::2":    {Device: "eth0"},
		"192.0.2.1":  {Via: addr("10.77.0.254"), Device: "eth0"},
		"10.244.2.7": {Via: addr("10.244.1.1"), Device: "cilium_host"},
		"fd24::7":    {Device: "cilium_host"},
	} {
		got, err := kernel.Resolve(addr(address))
		got.Source = netip.Addr{} // the kernel may name the one of the device
		if err != nil || got != want {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
	for _, address := range []string{"203.0.113.1", "fd99::1", "10.77.0.1"} {
		if got, err := kernel.Resolve(addr(address)); !errors.Is(err, errUnreachable) {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
	}
	node.down("eth0")
	if got, err := kernel.Resolve(addr("10.77.0.2")); !errors.Is(err, errUnreachable) {
		t.Errorf("with the cable unplugged: %+v, %v", got, err)
	}
}

// On Cilium the way to a node is that of its pods, gateway, device and all.
func TestCiliumWayAsRoute(t *testing.T) {
	node, _ := newNode(t)
	cable(t, node, "cilium_host", newNamespace(t), "cilium_net")
	node.address("cilium_host", "10.244.1.1/32")
	node.route("10.244.1.1/32", "", "cilium_host")
	node.route("10.244.2.0/24", "10.244.1.1", "cilium_host")
	kernel := node.kernel()
	hop, err := kernel.Resolve(addr("10.244.2.7"))
	if err != nil {
		t.Fatal(err)
	}
	want := Route{Prefix: prefix("10.66.10.6/32"), Kind: RouteRemote, Hop: hop}
	if got := set(t, kernel, want); !reflect.DeepEqual(got, []Route{want}) {
		t.Errorf("got %v, want %v", got, want)
	}
}

// A device that went takes its name along: what is left of its routes can be removed.
func TestRoutesOfADeviceThatIsGone(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	gone := Route{Prefix: prefix("10.66.10.5/32"), Kind: RouteDevice, Hop: Hop{Device: "gone"}}
	if err := kernel.Set(gone); err == nil {
		t.Error("it was set")
	}
	set(t, kernel, Route{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal})
	if err := kernel.Remove(gone); err != nil {
		t.Error(err)
	}
	if left := set(t, kernel); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestHasDeviceAndDummy(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
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

// TestDumpIsWholeWhileOthersWrite has another program change the table all the time:
// the routes that nobody touches are in every dump.
func TestDumpIsWholeWhileOthersWrite(t *testing.T) {
	node, _ := newNode(t)
	kernel, other := node.kernel(), node.kernel()
	const steady = 300
	for i := range steady {
		set := Route{Prefix: prefix(fmt.Sprintf("10.66.%d.%d/32", i/200, i%200)), Kind: RouteLocal}
		if err := kernel.Set(set); err != nil {
			t.Fatal(err)
		}
	}
	var stop atomic.Bool
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for i := 0; !stop.Load(); i++ {
			route := Route{Prefix: prefix(fmt.Sprintf("10.67.0.%d/32", i%250)), Kind: RouteBlackhole}
			_ = other.Set(route)
			_ = other.Remove(route)
		}
	}()
	for range 50 {
		routes, err := kernel.Routes()
		if err != nil && !errors.Is(err, netlink.ErrDumpInterrupted) {
			t.Error(err)
		}
		found := 0
		for _, route := range routes {
			if route.Kind == RouteLocal {
				found++
			}
		}
		if err == nil && found != steady {
			t.Errorf("a dump has %d of %d routes", found, steady)
		}
	}
	stop.Store(true)
	<-ended
}

// TestEvents waits for the changes of others, and hears nothing of its own.
func TestEvents(t *testing.T) {
	node, _ := newNode(t)
	kernel := node.kernel()
	ctx, cancel := context.WithCancel(context.Background())
	heard, ended := make(chan struct{}, 1000), make(chan error, 1)
	started := make(chan struct{})
	go node.do(func() error {
		close(started)
		err := kernel.Events(ctx, func() { heard <- struct{}{} })
		ended <- err
		return err
	})
	<-started
	route := remote("10.66.10.6/32", "10.77.0.2")
	// The first one may come before the subscription does.
	eventually(t, "a removal was not heard", func() bool {
		set(t, kernel, route)
		if err := kernel.Remove(route); err != nil {
			t.Fatal(err)
		}
		return len(heard) > 0
	})
	for _, change := range []struct {
		what string
		make func()
	}{
		{"a device that goes down", func() { node.down("eth0") }},
		{"a device that comes up", func() { node.up("eth0") }},
		{"a route of somebody else", func() { node.route("10.1.0.0/16", "", "eth0") }},
		{"a rule that is taken away", func() {
			if err := errors.Join(kernel.SetRules([]netip.Prefix{prefix("10.66.10.0/24")}), kernel.SetRules(nil)); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		for len(heard) > 0 {
			<-heard
		}
		change.make()
		eventually(t, change.what+" was not heard", func() bool { return len(heard) > 0 })
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestOwnWritesAreNoNews(t *testing.T) {
	message := func(kind uint16, proto byte) []syscall.NetlinkMessage {
		data := make([]byte, unix.SizeofRtMsg)
		data[5] = proto
		return []syscall.NetlinkMessage{{Header: syscall.NlMsghdr{Type: kind}, Data: data}}
	}
	for _, tc := range []struct {
		title    string
		messages []syscall.NetlinkMessage
		want     bool
	}{
		{"our route was set", message(unix.RTM_NEWROUTE, 149), false},
		{"our route was removed", message(unix.RTM_DELROUTE, 149), true},
		{"another's was set", message(unix.RTM_NEWROUTE, 2), true},
		{"a rule was added", message(unix.RTM_NEWRULE, 0), false},
		{"a rule was removed", message(unix.RTM_DELRULE, 0), true},
		{"a device changed", message(unix.RTM_NEWLINK, 0), true},
		{"too short", []syscall.NetlinkMessage{{Header: syscall.NlMsghdr{Type: unix.RTM_NEWROUTE}}}, true},
		{"ours and another's", append(message(unix.RTM_NEWROUTE, 149), message(unix.RTM_NEWROUTE, 2)...), true},
		{"none", nil, false},
	} {
		if got := matter(tc.messages); got != tc.want {
			t.Errorf("%s: %v", tc.title, got)
		}
	}
}
