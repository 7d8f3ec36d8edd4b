// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

const (
	// Table is the routing table that belongs to this program alone. The number is
	// the one that people find in the existing module's documentation.
	Table = 1490
	// protocol marks the routes and rules, so that cleaning up never touches what
	// somebody else put there. 149 is assigned to nobody in the kernel's list.
	protocol = 149
	// rulePriority puts our lookup before the main table's (32766).
	rulePriority = Table
)

// Kernel is the routing state of one network namespace.
type Kernel struct {
	handle *netlink.Handle
}

// NewKernel opens the routing state of the network namespace this runs in.
func NewKernel() (*Kernel, error) {
	handle, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("opening a socket to the kernel's routes: %w", err)
	}
	return &Kernel{handle: handle}, nil
}

// Routes dumps our table, both families.
func (k *Kernel) Routes() ([]Route, error) {
	filter := &netlink.Route{Table: Table, Protocol: protocol}
	names := k.deviceNames()
	var routes []Route
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		dumped, err := retryDump(func() (found []dumpedRoute, err error) {
			err = k.handle.RouteListFilteredIter(family, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL, func(entry netlink.Route) bool {
				found = append(found, fromKernel(&entry))
				return true
			})
			return found, err
		})
		if err != nil {
			return nil, fmt.Errorf("dumping table %d: %w", Table, err)
		}
		// While the dump goes on its socket is taken, so names are asked for now.
		for _, entry := range dumped {
			if entry.route.Kind == RouteRemote || entry.route.Kind == RouteDevice {
				entry.route.Hop.Device = names(entry.device)
			}
			routes = append(routes, entry.route)
		}
	}
	return routes, nil
}

// dumpedRoute is a route whose device is still a number.
type dumpedRoute struct {
	route  Route
	device int
}

// deviceNames looks each device up once. One that is gone has no name, and so its
// routes equal no wanted one.
func (k *Kernel) deviceNames() func(index int) string {
	known := map[int]string{}
	return func(index int) string {
		name, ok := known[index]
		if !ok {
			if link, err := k.handle.LinkByIndex(index); err == nil {
				name = link.Attrs().Name
			}
			known[index] = name
		}
		return name
	}
}

func fromKernel(entry *netlink.Route) dumpedRoute {
	prefix, ok := fromIPNet(entry.Dst)
	route := Route{Prefix: prefix, Kind: RouteForeign}
	switch {
	case !ok || len(entry.MultiPath) > 0:
	case entry.Type == unix.RTN_THROW:
		route.Kind = RouteLocal
	case entry.Type == unix.RTN_BLACKHOLE:
		route.Kind = RouteBlackhole
	case entry.Type == unix.RTN_UNICAST:
		route.Hop = hopOf(entry)
		route.Kind = RouteDevice
		if route.Hop.Via.IsValid() {
			route.Kind = RouteRemote
		}
	}
	return dumpedRoute{route: route, device: entry.LinkIndex}
}

// hopOf leaves the device's name out.
func hopOf(entry *netlink.Route) Hop {
	hop := Hop{MTU: entry.MTU}
	if via, ok := netip.AddrFromSlice(entry.Gw); ok {
		hop.Via = via.Unmap()
	}
	if source, ok := netip.AddrFromSlice(entry.Src); ok {
		hop.Source = source.Unmap()
	}
	return hop
}

// Set writes one route, in the place of the one that is there.
func (k *Kernel) Set(route Route) error {
	entry, err := k.toKernel(route)
	if err != nil {
		return err
	}
	if err := k.handle.RouteReplace(entry); err != nil {
		return fmt.Errorf("writing the route to %s: %w", route.Prefix, err)
	}
	return nil
}

// Remove deletes one route. One that is gone already is no error.
func (k *Kernel) Remove(route Route) error {
	entry, err := k.toKernel(route)
	if err != nil {
		// The device is gone, or was never known: what is left is the prefix.
		entry = &netlink.Route{Dst: toIPNet(route.Prefix), Table: Table, Protocol: protocol}
	}
	if err := k.handle.RouteDel(entry); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("deleting the route to %s: %w", route.Prefix, err)
	}
	return nil
}

func (k *Kernel) toKernel(route Route) (*netlink.Route, error) {
	entry := &netlink.Route{Dst: toIPNet(route.Prefix), Table: Table, Protocol: protocol}
	switch route.Kind {
	case RouteLocal:
		entry.Type = unix.RTN_THROW
	case RouteBlackhole:
		entry.Type = unix.RTN_BLACKHOLE
	case RouteRemote, RouteDevice:
		link, err := k.handle.LinkByName(route.Hop.Device)
		if err != nil {
			return nil, fmt.Errorf("finding the device %q: %w", route.Hop.Device, err)
		}
		entry.Type, entry.LinkIndex, entry.MTU = unix.RTN_UNICAST, link.Attrs().Index, route.Hop.MTU
		if entry.Scope = netlink.SCOPE_LINK; route.Hop.Via.IsValid() {
			entry.Scope, entry.Gw = netlink.SCOPE_UNIVERSE, route.Hop.Via.AsSlice()
		}
		if route.Hop.Source.IsValid() {
			entry.Src = route.Hop.Source.AsSlice()
		}
	}
	return entry, nil
}

// SetRules makes the policy rules of our table equal to one a range.
func (k *Kernel) SetRules(ranges []netip.Prefix) error {
	rules, err := k.rules()
	if err != nil {
		return err
	}
	var present []netip.Prefix
	for i := range rules {
		prefix, ok := fromIPNet(rules[i].Dst)
		if ok && rules[i].Priority == rulePriority && slices.Contains(ranges, prefix) && !slices.Contains(present, prefix) {
			present = append(present, prefix)
			continue
		}
		if rules[i].Protocol != protocol {
			continue
		}
		if err := k.handle.RuleDel(&rules[i]); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("deleting a stale policy rule: %w", err)
		}
	}
	for _, prefix := range ranges {
		if slices.Contains(present, prefix) {
			continue
		}
		rule := netlink.NewRule()
		rule.Dst, rule.Table, rule.Priority, rule.Family, rule.Protocol = toIPNet(prefix), Table, rulePriority, family(prefix), protocol
		if err := k.handle.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("adding the policy rule for %s: %w", prefix, err)
		}
	}
	return nil
}

func (k *Kernel) rules() ([]netlink.Rule, error) {
	filter := &netlink.Rule{Table: Table}
	rules, err := retryDump(func() ([]netlink.Rule, error) {
		return k.handle.RuleListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return nil, fmt.Errorf("dumping policy rules: %w", err)
	}
	return rules, nil
}

// Clear takes our rules and routes away. The rules go first: without them the table
// is not asked, so no packet meets a half of it.
func (k *Kernel) Clear() error {
	failures := []error{k.SetRules(nil)}
	routes, err := k.Routes()
	failures = append(failures, err)
	for _, route := range routes {
		failures = append(failures, k.Remove(route))
	}
	return errors.Join(failures...)
}

// errUnreachable is the answer of Resolve when no route leads there.
var errUnreachable = errors.New("no route leads there")

// Resolve asks the kernel for the route to an address outside our ranges. It is the
// entry of the table that is given, not what the kernel learned about the path since.
func (k *Kernel) Resolve(address netip.Addr) (Hop, error) {
	entries, err := k.handle.RouteGetWithOptions(address.AsSlice(), &netlink.RouteGetOptions{FIBMatch: true})
	if err == nil && len(entries) > 0 && len(entries[0].MultiPath) > 0 {
		// Of several ways the kernel chooses the one that it would take now.
		entries, err = k.handle.RouteGet(address.AsSlice())
	}
	switch {
	case isNoRoute(err), err == nil && (len(entries) == 0 || entries[0].Type != unix.RTN_UNICAST):
		return Hop{}, errUnreachable
	case err != nil:
		return Hop{}, fmt.Errorf("asking for the route to %s: %w", address, err)
	}
	hop := hopOf(&entries[0])
	hop.Device = k.deviceNames()(entries[0].LinkIndex)
	return hop, nil
}

// isNoRoute knows the answers for no route at all, for unreachable, blackhole and
// prohibit, and for a device that is just going.
func isNoRoute(err error) bool {
	return slices.ContainsFunc([]error{unix.ENETUNREACH, unix.EHOSTUNREACH, unix.EINVAL, unix.EACCES, unix.ENODEV, unix.ENETDOWN},
		func(known error) bool { return errors.Is(err, known) })
}

// HasDevice tells whether a device of that name exists.
func (k *Kernel) HasDevice(name string) (bool, error) {
	_, err := k.handle.LinkByName(name)
	var missing netlink.LinkNotFoundError
	switch {
	case err == nil:
		return true, nil
	case errors.As(err, &missing):
		return false, nil
	default:
		return false, fmt.Errorf("looking for the device %s: %w", name, err)
	}
}

// probeDevice is made and removed at once.
const probeDevice = "d8v-probe"

// SupportsDummy tells whether the kernel can make dummy devices, which KubeVirt's
// bridge binding on the pod network needs.
func (k *Kernel) SupportsDummy() (bool, error) {
	device := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: probeDevice}}
	err := k.handle.LinkAdd(device)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case err != nil && !errors.Is(err, unix.EEXIST):
		return false, fmt.Errorf("trying to make a dummy device: %w", err)
	}
	if err := k.handle.LinkDel(device); err != nil {
		return true, fmt.Errorf("removing the dummy device %s: %w", probeDevice, err)
	}
	return true, nil
}

func toIPNet(prefix netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: prefix.Addr().AsSlice(), Mask: net.CIDRMask(prefix.Bits(), prefix.Addr().BitLen())}
}

func fromIPNet(in *net.IPNet) (netip.Prefix, bool) {
	if in == nil {
		return netip.Prefix{}, false
	}
	address, ok := netip.AddrFromSlice(in.IP)
	bits, _ := in.Mask.Size()
	return netip.PrefixFrom(address.Unmap(), bits), ok
}

func family(prefix netip.Prefix) int {
	if prefix.Addr().Is4() {
		return netlink.FAMILY_V4
	}
	return netlink.FAMILY_V6
}
