// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"net/netip"
	"reflect"
	"strings"
	"testing"
)

func prefix(text string) netip.Prefix { return netip.MustParsePrefix(text) }

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

func TestRoutes(t *testing.T) {
	nodes := map[string]netip.Addr{"node-1": addr("10.77.0.1"), "node-2": addr("10.77.0.2"), "v6": addr("fd00::1")}
	cases := []struct {
		name     string
		machines []Machine
		device   string
		want     []Route
	}{
		{
			name: "no machine: the whole range is dropped",
			want: []Route{{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole}},
		},
		{
			name:     "a machine here is left to the CNI",
			machines: []Machine{{addr("10.66.10.5"), "node-1"}},
			want:     []Route{{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole}, {Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal}},
		},
		{
			name:     "on Cilium it is behind the CNI's device",
			machines: []Machine{{addr("10.66.10.5"), "node-1"}}, device: "cilium_host",
			want: []Route{{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole}, {Prefix: prefix("10.66.10.5/32"), Kind: RouteDevice, Device: "cilium_host"}},
		},
		{
			name:     "a machine elsewhere is reached through its node, sorted",
			machines: []Machine{{addr("10.66.10.9"), "node-2"}, {addr("10.66.10.7"), "node-2"}},
			want: []Route{
				{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole},
				{Prefix: prefix("10.66.10.7/32"), Kind: RouteRemote, Via: addr("10.77.0.2")},
				{Prefix: prefix("10.66.10.9/32"), Kind: RouteRemote, Via: addr("10.77.0.2")},
			},
		},
		{
			name:     "unknown node and other address family: dropped for now",
			machines: []Machine{{addr("10.66.10.5"), "gone"}, {addr("10.66.10.6"), "v6"}},
			want:     []Route{{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole}},
		},
		{
			name:     "an address outside the ranges is not ours",
			machines: []Machine{{addr("192.168.1.5"), "node-2"}},
			want:     []Route{{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole}},
		},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			got := Routes(Input{
				Node: "node-1", Ranges: []netip.Prefix{prefix("10.66.10.0/24")},
				Machines: tc.machines, NodeAddresses: nodes, LocalDevice: tc.device,
			})
			if !reflect.DeepEqual(got, tc.want) {
				t.Errorf("got %v, want %v", got, tc.want)
			}
		})
	}
}

func TestDiff(t *testing.T) {
	hole := Route{Prefix: prefix("10.66.10.0/24"), Kind: RouteBlackhole}
	here := Route{Prefix: prefix("10.66.10.5/32"), Kind: RouteLocal}
	there := Route{Prefix: prefix("10.66.10.5/32"), Kind: RouteRemote, Via: addr("10.77.0.2")}
	stale := Route{Prefix: prefix("10.66.10.6/32"), Kind: RouteRemote, Via: addr("10.77.0.2")}

	set, remove := Diff([]Route{hole, there, stale}, []Route{hole, here})
	if !reflect.DeepEqual(set, []Route{here}) {
		t.Errorf("set: got %v", set)
	}
	if !reflect.DeepEqual(remove, []Route{stale}) {
		t.Errorf("remove: got %v (a changed route must only be replaced)", remove)
	}
	set, remove = Diff([]Route{hole, here}, []Route{hole, here})
	if len(set)+len(remove) != 0 {
		t.Errorf("equal tables: set %v, remove %v", set, remove)
	}
}

func TestParseRanges(t *testing.T) {
	got, err := ParseRanges([]string{"10.66.20.0/24", "10.66.10.5/24"})
	if err != nil || !reflect.DeepEqual(got, []netip.Prefix{prefix("10.66.10.0/24"), prefix("10.66.20.0/24")}) {
		t.Errorf("got %v, %v", got, err)
	}
	_, err = ParseRanges([]string{"10.66.10.0"})
	if err == nil || !strings.Contains(err.Error(), `virtualMachineCIDRs: "10.66.10.0" is no address range: write it as 10.66.10.0/24`) {
		t.Errorf("got %v", err)
	}
}
