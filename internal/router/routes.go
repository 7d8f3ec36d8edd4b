// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
)

// RouteKind is what the kernel does with a packet to an address.
type RouteKind string

const (
	// RouteLocal leaves the packet to the CNI's own route.
	RouteLocal RouteKind = "Local"
	// RouteDevice sends the packet into a device of this node.
	RouteDevice RouteKind = "Device"
	// RouteRemote sends the packet to another node.
	RouteRemote RouteKind = "Remote"
	// RouteBlackhole drops the packet.
	RouteBlackhole RouteKind = "Blackhole"
)

// Route is one entry of the table. It is comparable.
type Route struct {
	Prefix netip.Prefix
	Kind   RouteKind
	// Via is the address of the other node, for RouteRemote.
	Via netip.Addr
	// Device is the name of a device, for RouteDevice.
	Device string
}

// Machine is what routing needs to know of a running machine.
type Machine struct {
	Address netip.Addr
	Node    string
}

// Input is everything that the wanted routes depend on.
type Input struct {
	// Node is the name of the node this runs on.
	Node string
	// Ranges are the administrator's virtualMachineCIDRs.
	Ranges []netip.Prefix
	// Machines that have an address and a node.
	Machines []Machine
	// NodeAddresses are the addresses at which other nodes are reached.
	NodeAddresses map[string]netip.Addr
	// LocalDevice, when set, is the device that leads to machines on this node
	// (cilium_host); otherwise the CNI's routes do.
	LocalDevice string
}

// Routes computes the wanted table, sorted by prefix. Addresses outside the ranges
// are left alone: they are not ours. A machine on a node without a known address
// has no route yet, so its traffic is dropped rather than sent astray.
func Routes(in Input) []Route {
	routes := map[netip.Prefix]Route{}
	for _, prefix := range in.Ranges {
		routes[prefix.Masked()] = Route{Prefix: prefix.Masked(), Kind: RouteBlackhole}
	}
	for _, machine := range in.Machines {
		if !contains(in.Ranges, machine.Address) {
			continue
		}
		if route, ok := routeTo(in, machine); ok {
			routes[route.Prefix] = route
		}
	}
	out := make([]Route, 0, len(routes))
	for _, route := range routes {
		out = append(out, route)
	}
	slices.SortFunc(out, compareRoutes)
	return out
}

func routeTo(in Input, machine Machine) (Route, bool) {
	prefix := netip.PrefixFrom(machine.Address, machine.Address.BitLen())
	if machine.Node == in.Node {
		if in.LocalDevice != "" {
			return Route{Prefix: prefix, Kind: RouteDevice, Device: in.LocalDevice}, true
		}
		return Route{Prefix: prefix, Kind: RouteLocal}, true
	}
	via, ok := in.NodeAddresses[machine.Node]
	if !ok || via.Is4() != machine.Address.Is4() {
		return Route{}, false
	}
	return Route{Prefix: prefix, Kind: RouteRemote, Via: via}, true
}

// Diff tells which routes to set and which to delete. The kernel replaces a route
// of the same prefix at once, so a changed route is only set.
func Diff(have, want []Route) (set, remove []Route) {
	wanted := make(map[netip.Prefix]bool, len(want))
	present := make(map[Route]bool, len(have))
	for _, route := range have {
		present[route] = true
	}
	for _, route := range want {
		wanted[route.Prefix] = true
		if !present[route] {
			set = append(set, route)
		}
	}
	for _, route := range have {
		if !wanted[route.Prefix] {
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
	return out, nil
}

func contains(ranges []netip.Prefix, address netip.Addr) bool {
	return slices.ContainsFunc(ranges, func(prefix netip.Prefix) bool { return prefix.Contains(address) })
}

func compareRoutes(a, b Route) int { return comparePrefixes(a.Prefix, b.Prefix) }

func comparePrefixes(a, b netip.Prefix) int {
	return cmp.Or(a.Addr().Compare(b.Addr()), cmp.Compare(a.Bits(), b.Bits()))
}
