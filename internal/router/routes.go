// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// RouteKind is what the kernel does with a packet to an address.
type RouteKind string

const (
	// RouteLocal leaves the packet to the CNI's own route.
	RouteLocal RouteKind = "Local"
	// RouteDevice sends the packet into a device, behind which the CNI takes care of it.
	RouteDevice RouteKind = "Device"
	// RouteRemote sends the packet to a gateway: another node, or the CNI's own.
	RouteRemote RouteKind = "Remote"
	// RouteBlackhole drops the packet.
	RouteBlackhole RouteKind = "Blackhole"
	// RouteForeign is a route with our mark that this program would never write.
	RouteForeign RouteKind = "Foreign"
)

// Hop is the way to another node, as the kernel knows it. It is comparable.
type Hop struct {
	// Via is the gateway; invalid when the node is behind a device without one.
	Via netip.Addr
	// Device is the name of the device that the gateway is behind.
	Device string
	// Source is the address that this node itself sends from; invalid leaves it to
	// the kernel.
	Source netip.Addr
	// MTU in bytes bounds packets on this way; 0 leaves it to the device.
	MTU int
}

// String is empty for no hop.
func (h Hop) String() string {
	switch {
	case h.Device == "":
		return ""
	case !h.Via.IsValid():
		return "dev " + h.Device
	}
	return "via " + h.Via.String() + " dev " + h.Device
}

// Route is one entry of the table. It is comparable.
type Route struct {
	Prefix netip.Prefix
	Kind   RouteKind
	// Hop is empty unless the kind is RouteRemote or, without a gateway, RouteDevice.
	Hop Hop
}

// Machine is what routing needs to know of a running machine.
type Machine struct {
	// Name is namespace/name.
	Name string
	// Created decides between two machines with one address.
	Created time.Time
	Address netip.Addr
	Node    string
}

// Reason is why a machine has no route.
type Reason string

const (
	// ReasonNoNodeAddress means that the node has no address of the machine's family.
	ReasonNoNodeAddress Reason = "NoNodeAddress"
	// ReasonNodeUnreachable means that this node has no route to the machine's node.
	ReasonNodeUnreachable Reason = "NodeUnreachable"
	// ReasonNodeNotAdjacent means that the way to the node leads through a router,
	// which does not know the machine's address.
	ReasonNodeNotAdjacent Reason = "NodeNotAdjacent"
	// ReasonAddressTaken means that an older machine has the same address.
	ReasonAddressTaken Reason = "AddressTaken"
	// ReasonRangeRefused means that the machine's range holds addresses of nodes or pods.
	ReasonRangeRefused Reason = "RangeRefused"
	// ReasonKernelRefused means that the kernel did not take the route.
	ReasonKernelRefused Reason = "KernelRefused"
)

// reasons lists all of them, in the order in which metrics show them.
var reasons = []Reason{
	ReasonNoNodeAddress, ReasonNodeUnreachable, ReasonNodeNotAdjacent, ReasonAddressTaken, ReasonRangeRefused, ReasonKernelRefused,
}

// Way is a hop, or why there is none.
type Way struct {
	Hop     Hop
	Problem Reason
}

// NodeKey is one address family of a node.
type NodeKey struct {
	Name string
	IPv6 bool
}

// Input is everything that the wanted routes depend on.
type Input struct {
	// Node is the name of the node this runs on.
	Node string
	// Ranges are the administrator's virtualMachineCIDRs.
	Ranges []netip.Prefix
	// Machines that have an address and a node.
	Machines []Machine
	// Ways lead to the other nodes.
	Ways map[NodeKey]Way
	// Reserved are the addresses of nodes and of their pods.
	Reserved []netip.Prefix
	// LocalDevice, when set, is the device that leads to machines on this node
	// (cilium_host); otherwise the CNI's routes do.
	LocalDevice string
}

// Unrouted is a machine without a route.
type Unrouted struct {
	Machine Machine
	Reason  Reason
}

// Refused is a range that is not routed because it would take away the addresses
// of something else.
type Refused struct {
	Range netip.Prefix
	Holds netip.Prefix
}

// Wanted is what the kernel should have, and what it can't have. All lists are
// sorted, so that equal inputs give equal results.
type Wanted struct {
	Routes   []Route
	Ranges   []netip.Prefix
	Unrouted []Unrouted
	Refused  []Refused
}

// Want computes the wanted table. Addresses outside the ranges are left alone: they
// are not ours. A machine on a node without a known way to it has no route yet, so
// its traffic is dropped rather than sent astray.
func Want(in Input) Wanted {
	var out Wanted
	out.Ranges, out.Refused = splitRanges(in.Ranges, in.Reserved)
	for _, prefix := range out.Ranges {
		out.Routes = append(out.Routes, Route{Prefix: prefix, Kind: RouteBlackhole})
	}
	taken := map[netip.Addr]bool{}
	machines := slices.Clone(in.Machines)
	slices.SortFunc(machines, compareMachines)
	for _, machine := range machines {
		if !contains(in.Ranges, machine.Address) {
			continue
		}
		route, problem := Route{}, ReasonRangeRefused
		switch {
		case taken[machine.Address]:
			problem = ReasonAddressTaken
		case contains(out.Ranges, machine.Address):
			route, problem = routeTo(in, machine)
		}
		taken[machine.Address] = true
		if problem != "" {
			out.Unrouted = append(out.Unrouted, Unrouted{Machine: machine, Reason: problem})
			continue
		}
		out.Routes = append(out.Routes, route)
	}
	out.Routes = slices.CompactFunc(sorted(out.Routes), func(a, b Route) bool { return a.Prefix == b.Prefix })
	return out
}

// splitRanges keeps a mistaken setting from cutting off nodes or pods: a rule for a
// range that holds them would drop their traffic.
func splitRanges(ranges, reserved []netip.Prefix) (good []netip.Prefix, refused []Refused) {
	for _, prefix := range ranges {
		holds := slices.IndexFunc(reserved, prefix.Overlaps)
		if holds >= 0 {
			refused = append(refused, Refused{Range: prefix.Masked(), Holds: reserved[holds]})
			continue
		}
		good = append(good, prefix.Masked())
	}
	return good, refused
}

func routeTo(in Input, machine Machine) (Route, Reason) {
	prefix := single(machine.Address)
	if machine.Node == in.Node {
		if in.LocalDevice != "" {
			return Route{Prefix: prefix, Kind: RouteDevice, Hop: Hop{Device: in.LocalDevice}}, ""
		}
		return Route{Prefix: prefix, Kind: RouteLocal}, ""
	}
	way, known := in.Ways[NodeKey{Name: machine.Node, IPv6: machine.Address.Is6()}]
	if !known {
		return Route{}, ReasonNoNodeAddress
	}
	kind := RouteRemote
	if !way.Hop.Via.IsValid() {
		kind = RouteDevice
	}
	return Route{Prefix: prefix, Kind: kind, Hop: way.Hop}, way.Problem
}

// Diff tells which routes to set and which to delete. The kernel replaces a route
// of the same prefix at once, so a changed route is only set. A second route of the
// same prefix, which somebody else's hand may have added, is deleted.
func Diff(have, want []Route) (set, remove []Route) {
	wanted := make(map[netip.Prefix]Route, len(want))
	for _, route := range want {
		wanted[route.Prefix] = route
	}
	present := make(map[Route]bool, len(have))
	for _, route := range have {
		present[route] = true
	}
	for _, route := range want {
		if !present[route] {
			set = append(set, route)
		}
	}
	for _, route := range have {
		target, isWanted := wanted[route.Prefix]
		if !isWanted || (route != target && present[target]) {
			remove = append(remove, route)
		}
	}
	return set, remove
}

// ParseRanges reads virtualMachineCIDRs.
func ParseRanges(texts []string) ([]netip.Prefix, error) {
	out := make([]netip.Prefix, 0, len(texts))
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("virtualMachineCIDRs: %q is no address range: write it as 10.66.10.0/24", text)
		}
		out = append(out, prefix.Masked())
	}
	slices.SortFunc(out, comparePrefixes)
	return slices.Compact(out), nil
}

func contains(ranges []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

// single is the network of exactly one address.
func single(address netip.Addr) netip.Prefix { return netip.PrefixFrom(address, address.BitLen()) }

func sorted(routes []Route) []Route {
	slices.SortStableFunc(routes, func(a, b Route) int {
		// Of a range with one address, the machine's route is the one that counts.
		return cmp.Or(comparePrefixes(a.Prefix, b.Prefix), cmp.Compare(rank(a.Kind), rank(b.Kind)))
	})
	return routes
}

func rank(kind RouteKind) int {
	if kind == RouteBlackhole {
		return 1
	}
	return 0
}

// compareMachines puts the older machine first: all nodes agree on who keeps an
// address, and a newcomer never takes it away.
func compareMachines(a, b Machine) int {
	return cmp.Or(a.Address.Compare(b.Address), a.Created.Compare(b.Created), cmp.Compare(a.Name, b.Name))
}

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
