// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

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

	// A dump is interrupted when the table changes while it is read; the kernel
	// says so and the dump is simply read again.
	dumpTries = 30
	dumpPause = time.Millisecond
)

// Kernel is the routing state of the network namespace this runs in.
type Kernel struct{}

// Routes dumps our table.
func (Kernel) Routes() ([]Route, error) {
	filter := &netlink.Route{Table: Table, Protocol: protocol}
	dumped, err := retryDump(func() ([]netlink.Route, error) {
		return netlink.RouteListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	})
	if err != nil {
		return nil, fmt.Errorf("dumping table %d: %w", Table, err)
	}
	routes := make([]Route, 0, len(dumped))
	for _, entry := range dumped {
		route, err := fromKernel(entry)
		if err != nil {
			return nil, err
		}
		routes = append(routes, route)
	}
	return routes, nil
}

func fromKernel(entry netlink.Route) (Route, error) {
	if entry.Dst == nil {
		return Route{}, fmt.Errorf("table %d holds a default route, which this program never writes", Table)
	}
	address, ok := netip.AddrFromSlice(entry.Dst.IP)
	if !ok {
		return Route{}, fmt.Errorf("the kernel gave the address %v", entry.Dst.IP)
	}
	bits, _ := entry.Dst.Mask.Size()
	route := Route{Prefix: netip.PrefixFrom(address.Unmap(), bits)}
	switch {
	case entry.Type == unix.RTN_THROW:
		route.Kind = RouteLocal
	case entry.Type == unix.RTN_BLACKHOLE:
		route.Kind = RouteBlackhole
	case entry.Gw != nil:
		via, _ := netip.AddrFromSlice(entry.Gw)
		route.Kind, route.Via = RouteRemote, via.Unmap()
	default:
		link, err := netlink.LinkByIndex(entry.LinkIndex)
		if err != nil {
			return Route{}, fmt.Errorf("finding the device of %s: %w", route.Prefix, err)
		}
		route.Kind, route.Device = RouteDevice, link.Attrs().Name
	}
	return route, nil
}

// Set writes one route, in the place of the one that is there.
func (Kernel) Set(route Route) error {
	entry, err := toKernel(route)
	if err != nil {
		return err
	}
	if err := netlink.RouteReplace(entry); err != nil {
		return fmt.Errorf("writing the route to %s: %w", route.Prefix, err)
	}
	return nil
}

// Remove deletes one route. One that is gone already is no error.
func (Kernel) Remove(route Route) error {
	entry, err := toKernel(route)
	if err != nil {
		return err
	}
	if err := netlink.RouteDel(entry); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("deleting the route to %s: %w", route.Prefix, err)
	}
	return nil
}

func toKernel(route Route) (*netlink.Route, error) {
	entry := &netlink.Route{Dst: toIPNet(route.Prefix), Table: Table, Protocol: protocol}
	switch route.Kind {
	case RouteLocal:
		entry.Type = unix.RTN_THROW
	case RouteBlackhole:
		entry.Type = unix.RTN_BLACKHOLE
	case RouteRemote:
		entry.Type, entry.Gw = unix.RTN_UNICAST, route.Via.AsSlice()
	case RouteDevice:
		link, err := netlink.LinkByName(route.Device)
		if err != nil {
			return nil, fmt.Errorf("finding the device %s: %w", route.Device, err)
		}
		entry.Type, entry.LinkIndex, entry.Scope = unix.RTN_UNICAST, link.Attrs().Index, netlink.SCOPE_LINK
	}
	return entry, nil
}

// SetRules makes the policy rules of our table equal to one a range.
func (Kernel) SetRules(ranges []netip.Prefix) error {
	filter := &netlink.Rule{Table: Table}
	rules, err := retryDump(func() ([]netlink.Rule, error) {
		return netlink.RuleListFiltered(netlink.FAMILY_ALL, filter, netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("dumping policy rules: %w", err)
	}
	var present []netip.Prefix
	for _, rule := range rules {
		prefix, ok := fromIPNet(rule.Dst)
		if ok && rule.Priority == rulePriority && slices.Contains(ranges, prefix) && !slices.Contains(present, prefix) {
			present = append(present, prefix)
			continue
		}
		if err := netlink.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("deleting a stale policy rule: %w", err)
		}
	}
	for _, prefix := range ranges {
		if slices.Contains(present, prefix) {
			continue
		}
		rule := netlink.NewRule()
		rule.Dst, rule.Table, rule.Priority, rule.Family = toIPNet(prefix), Table, rulePriority, family(prefix)
		if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("adding the policy rule for %s: %w", prefix, err)
		}
	}
	return nil
}

// HasDevice tells whether a device of that name exists.
func (Kernel) HasDevice(name string) (bool, error) {
	_, err := netlink.LinkByName(name)
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
func (Kernel) SupportsDummy() (bool, error) {
	device := &netlink.Dummy{LinkAttrs: netlink.LinkAttrs{Name: probeDevice}}
	err := netlink.LinkAdd(device)
	switch {
	case errors.Is(err, unix.EOPNOTSUPP):
		return false, nil
	case err != nil && !errors.Is(err, unix.EEXIST):
		return false, fmt.Errorf("trying to make a dummy device: %w", err)
	}
	if err := netlink.LinkDel(device); err != nil {
		return true, fmt.Errorf("removing the dummy device %s: %w", probeDevice, err)
	}
	return true, nil
}

func retryDump[T any](dump func() ([]T, error)) ([]T, error) {
	var (
		out []T
		err error
	)
	for range dumpTries {
		if out, err = dump(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
		time.Sleep(dumpPause)
	}
	return out, err
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
