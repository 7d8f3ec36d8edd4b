// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// Route leads to a network by way of another machine.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Uplink is how a node is connected.
type Uplink struct {
	Address netip.Prefix
	Routes  []Route
}

// Configure sets up the uplink of the calling process' network namespace.
func Configure(u Uplink) error {
	if err := up("lo"); err != nil {
		return err
	}
	link, err := netlink.LinkByName(UplinkName)
	if err != nil {
		return fmt.Errorf("find uplink %s: %w", UplinkName, err)
	}
	if err := netlink.AddrReplace(link, &netlink.Addr{IPNet: toIPNet(u.Address)}); err != nil {
		return fmt.Errorf("give %s to %s: %w", u.Address, UplinkName, err)
	}
	if err := up(UplinkName); err != nil {
		return err
	}
	for _, r := range u.Routes {
		route := netlink.Route{LinkIndex: link.Attrs().Index, Dst: toIPNet(r.To), Gw: net.IP(r.Via.AsSlice())}
		if err := netlink.RouteReplace(&route); err != nil {
			return fmt.Errorf("add route to %s via %s: %w", r.To, r.Via, err)
		}
	}
	return nil
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find link %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set link %s up: %w", name, err)
	}
	return nil
}
