// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"math/rand/v2"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// at is a machine of the first day.
func at(name, address, node string) Machine {
	return Machine{Name: "team/" + name, Address: addr(address), Node: node, Created: time.Unix(0, 0)}
}

func remote(address, via string) Route {
	return Route{Prefix: prefix(address), Kind: RouteRemote, Hop: Hop{Via: addr(via), Device: "eth0"}}
}

var (
	hole4 = Route{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole}
	hole6 = Route{Prefix: prefix("fd66::/64"), Kind: RouteBlackhole}
)

// input is a node of a small cluster with both families.
func input(machines ...Machine) Input {
	return Input{
		Node: "node-1", Ranges: []netip.Prefix{prefix("10.66.10.0/24"), prefix("fd66::/64")}, Machines: machines,
		Ways: map[NodeKey]Way{
			{Name: "node-2"}:             {Hop: Hop{Via: addr("10.77.0.2"), Device: "eth0"}},
			{Name: "node-2", IPv6: true}: {Hop: Hop{Via: addr("fd77::2"), Device: "eth0"}},
			{Name: "away"}:               {Problem: ReasonNodeNotAdjacent},
			{Name: "off"}:                {Problem: ReasonNodeUnreachable},
			{Name: "wired"}:              {Hop: Hop{Device: "cilium_wg0"}},
		},
		Reserved: []netip.Prefix{prefix("10.77.0.1/32"), prefix("10.77.0.2/32"), prefix("10.244.0.0/24")},
	}
}

func TestWant(t *testing.T) {
	young := at("young", "10.66.10.5", "node-2")
	young.Created = time.Unix(60, 0)
	for _, tc := range []struct {
		title    string
		machines []Machine
		routes   []Route
		unrouted map[string]Reason
	}{
		{title: "no machine: the ranges are dropped"},
		{
			title: "a machine here is left to the CNI", machines: []Machine{at("a", "10.66.10.5", "node-1")},
			routes: []Route{{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal}},
		},
		{
			title:    "machines elsewhere are reached through their node",
			machines: []Machine{at("a", "10.66.10.9", "node-2"), at("b", "10.66.10.7", "node-2")},
			routes:   []Route{remote("10.66.10.7/32", "10.77.0.2"), remote("10.66.10.9/32", "10.77.0.2")},
		},
		{
			title:    "both families",
			machines: []Machine{at("a", "fd66::5", "node-2"), at("b", "fd66::6", "node-1")},
			routes: []Route{
				remote("fd66::5/128", "fd77::2"), {Prefix: prefix("fd66::6/128"), Kind: RouteLocal},
			},
		},
		{
			title: "a way without a gateway", machines: []Machine{at("a", "10.66.10.5", "wired")},
			routes: []Route{{Prefix: prefix("10.66.10.5/32"), Kind: RouteDevice, Hop: Hop{Device: "cilium_wg0"}}},
		},
		{
			title: "nodes to which there is no way",
			machines: []Machine{
				at("a", "10.66.10.5", "gone"), at("b", "10.66.10.6", "away"), at("c", "10.66.10.7", "off"), at("d", "fd66::5", "away"),
			},
			unrouted: map[string]Reason{
				"team/a": "NoNodeAddress", "team/b": "NodeNotAdjacent", "team/c": "NodeUnreachable", "team/d": "NoNodeAddress",
			},
		},
		{title: "an address outside the ranges is not ours", machines: []Machine{at("a", "192.168.1.5", "node-2")}},
		{
			title: "an address that two have stays with the older one", machines: []Machine{young, at("old", "10.66.10.5", "node-1")},
			routes:   []Route{{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal}},
			unrouted: map[string]Reason{"team/young": "AddressTaken"},
		},
		{
			title: "also where the older one cannot be reached", machines: []Machine{young, at("old", "10.66.10.5", "off")},
			unrouted: map[string]Reason{"team/old": "NodeUnreachable", "team/young": "AddressTaken"},
		},
		{
			title: "of the same age, with the first name", machines: []Machine{at("b", "10.66.10.5", "node-2"), at("a", "10.66.10.5", "node-1")},
			routes:   []Route{{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal}},
			unrouted: map[string]Reason{"team/b": "AddressTaken"},
		},
	} {
		t.Run(tc.title, func(t *testing.T) {
			got := Want(input(tc.machines...))
			want := sorted(append([]Route{hole4, hole6}, tc.routes...))
			if !reflect.DeepEqual(got.Routes, want) {
				t.Errorf("routes %v, want %v", got.Routes, want)
			}
			if len(got.Unrouted) != len(tc.unrouted) || got.Refused != nil {
				t.Errorf("without a route: %v, want %v; refused %v", got.Unrouted, tc.unrouted, got.Refused)
			}
			for _, unrouted := range got.Unrouted {
				if want := tc.unrouted[unrouted.Machine.Name]; unrouted.Reason != want {
					t.Errorf("%s has no route because of %s, want %s", unrouted.Machine.Name, unrouted.Reason, want)
				}
			}
		})
	}
}

func TestWantOnCilium(t *testing.T) {
	in := input(at("a", "10.66.10.5", "node-1"), at("b", "10.66.10.6", "node-2"))
	in.LocalDevice = "cilium_host"
	tunnel := Hop{Via: addr("10.244.0.5"), Device: "cilium_host", Source: addr("10.244.0.5"), MTU: 1450}
	in.Ways[NodeKey{Name: "node-2"}] = Way{Hop: tunnel}
	want := []Route{
		hole4, {Prefix: prefix("10.66.10.5/32"), Kind: RouteDevice, Hop: Hop{Device: "cilium_host"}},
		{Prefix: prefix("10.66.10.6/32"), Kind: RouteRemote, Hop: tunnel}, hole6,
	}
	if got := Want(in); !reflect.DeepEqual(got.Routes, want) {
		t.Errorf("got %v, want %v", got.Routes, want)
	}
}

// A setting that would cut nodes or pods off is not carried out.
func TestRangesThatHoldNodesOrPods(t *testing.T) {
	for _, tc := range []struct{ set, holds string }{
		{"10.77.0.0/24", "10.77.0.1/32"}, {"10.244.0.128/25", "10.244.0.0/24"}, {"10.0.0.0/8", "10.77.0.1/32"}, {"10.77.0.2/32", "10.77.0.2/32"},
	} {
		in := input(at("a", "10.77.0.200", "node-2"), at("b", "fd66::5", "node-2"))
		in.Ranges = []netip.Prefix{prefix(tc.set), prefix("fd66::/64")}
		got := Want(in)
		if !reflect.DeepEqual(got.Refused, []Refused{{Range: prefix(tc.set), Holds: prefix(tc.holds)}}) {
			t.Errorf("%s: refused %v", tc.set, got.Refused)
		}
		if !reflect.DeepEqual(got.Ranges, []netip.Prefix{prefix("fd66::/64")}) {
			t.Errorf("%s: rules for %v", tc.set, got.Ranges)
		}
		if want := []Route{hole6, remote("fd66::5/128", "fd77::2")}; !reflect.DeepEqual(got.Routes, want) {
			t.Errorf("%s: routes %v", tc.set, got.Routes)
		}
	}
	in := input(at("a", "10.77.0.200", "node-2"))
	in.Ranges = []netip.Prefix{prefix("10.77.0.0/24")}
	if got := Want(in); len(got.Unrouted) != 1 || got.Unrouted[0].Reason != "RangeRefused" {
		t.Errorf("its machine: %v", got.Unrouted)
	}
}

// A range of one address is that machine's when there is one.
func TestRangeOfOneAddress(t *testing.T) {
	in := input()
	in.Ranges = []netip.Prefix{prefix("10.66.10.5/32")}
	if got := Want(in); len(got.Routes) != 1 || got.Routes[0].Kind != RouteBlackhole {
		t.Errorf("without a machine: %v", got.Routes)
	}
	in.Machines = []Machine{at("a", "10.66.10.5", "node-2")}
	if got := Want(in); !reflect.DeepEqual(got.Routes, []Route{remote("10.66.10.5/32", "10.77.0.2")}) {
		t.Errorf("with one: %v", got.Routes)
	}
}

// The order in which objects come out of the caches is not the same on every node.
func TestOrderDoesNotMatter(t *testing.T) {
	young := at("c", "10.66.10.5", "node-2")
	young.Created = time.Unix(1, 0)
	machines := []Machine{
		at("a", "10.66.10.5", "node-1"), at("b", "10.66.10.5", "node-2"), young, at("d", "10.66.10.6", "off"), at("e", "fd66::5", "node-2"),
	}
	want := Want(input(machines...))
	for range 50 {
		shuffled := input(machines...)
		rand.Shuffle(len(shuffled.Machines), func(i, j int) {
			shuffled.Machines[i], shuffled.Machines[j] = shuffled.Machines[j], shuffled.Machines[i]
		})
		if got := Want(shuffled); !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\nbecame %v\nfor %v", want, got, shuffled.Machines)
		}
	}
}

func TestDiff(t *testing.T) {
	here := Route{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal}
	there := remote("10.66.10.5/32", "10.77.0.2")
	stale := remote("10.66.10.6/32", "10.77.0.2")
	strange := Route{Prefix: prefix("0.0.0.0/0"), Kind: RouteForeign}
	for _, tc := range []struct {
		title             string
		have, want        []Route
		wantSet, wantGone []Route
	}{
		{title: "nothing to do", have: []Route{hole4, here}, want: []Route{hole4, here}},
		{title: "from empty", want: []Route{hole4, here}, wantSet: []Route{hole4, here}},
		{title: "a changed route is only replaced", have: []Route{hole4, there}, want: []Route{hole4, here}, wantSet: []Route{here}},
		{title: "stale ones go", have: []Route{hole4, stale, strange}, want: []Route{hole4}, wantGone: []Route{stale, strange}},
		{title: "a second one of the same prefix goes", have: []Route{here, there}, want: []Route{here}, wantGone: []Route{there}},
	} {
		set, remove := Diff(tc.have, tc.want)
		if !reflect.DeepEqual(set, tc.wantSet) || !reflect.DeepEqual(remove, tc.wantGone) {
			t.Errorf("%s: set %v, remove %v", tc.title, set, remove)
		}
	}
}

func TestHopAsText(t *testing.T) {
	for want, hop := range map[string]Hop{
		"": {}, "dev eth0": {Device: "eth0"}, "via 10.77.0.2 dev eth0": {Via: addr("10.77.0.2"), Device: "eth0", MTU: 1400},
	} {
		if got := hop.String(); got != want {
			t.Errorf("%q, want %q", got, want)
		}
	}
}

func TestParseRanges(t *testing.T) {
	got, err := ParseRanges([]string{"10.66.20.0/24", "fd66::5/64", "10.66.10.5/24", "10.66.20.7/24"})
	want := []netip.Prefix{prefix("10.66.10.0/24"), prefix("10.66.20.0/24"), prefix("fd66::/64")}
	if err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = ParseRanges([]string{"10.66.10.0"})
	if err == nil || !strings.Contains(err.Error(), `virtualMachineCIDRs: "10.66.10.0" is no address range: write it as 10.66.10.0/24`) {
		t.Errorf("got %v", err)
	}
}
