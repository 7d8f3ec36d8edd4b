// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/plugins/pkg/ip"
	"github.com/containernetworking/plugins/pkg/ns"
	"github.com/vishvananda/netlink"
)

const routedMTU = 1500

// gatewayMAC is the address of the node's end of every cable. It is the same on
// all nodes: a guest that moved to another node goes on talking to the gateway
// it knows.
var gatewayMAC = net.HardwareAddr{0x02, 0x66, 0x10, 0x00, 0x00, 0x01}

// routed connects a pod by a cable of its own: the node has a route to exactly
// the pod's address, and the pod has nothing on its network but the gateway.
type routed struct{}

// Attach lays the cable and gives the pod its address.
func (routed) Attach(netns, ifName string, address, gateway netip.Addr, cniVersion string) (types.Result, error) {
	pod, err := ns.GetNS(netns)
	if err != nil {
		return nil, fmt.Errorf("open network namespace of pod: %w", err)
	}
	defer pod.Close()
	var hostEnd, podEnd net.Interface
	err = pod.Do(func(node ns.NetNS) (err error) {
		hostEnd, podEnd, err = ip.SetupVeth(ifName, routedMTU, "", node)
		if err != nil {
			return fmt.Errorf("lay cable to pod: %w", err)
		}
		return addressPod(ifName, address, gateway)
	})
	if err != nil {
		return nil, err
	}
	if err := routeTo(hostEnd.Name, address, gateway); err != nil {
		return nil, err
	}
	result := &current.Result{
		CNIVersion: cniVersion,
		Interfaces: []*current.Interface{
			{Name: hostEnd.Name, Mac: gatewayMAC.String()},
			{Name: podEnd.Name, Mac: podEnd.HardwareAddr.String(), Sandbox: netns},
		},
		IPs: []*current.IPConfig{{Interface: current.Int(1), Address: *single(address), Gateway: net.IP(gateway.AsSlice())}},
		Routes: []*types.Route{{
			Dst: net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}, GW: net.IP(gateway.AsSlice()),
		}},
	}
	return result, nil
}

// addressPod sets up the pod's end, from inside the pod.
func addressPod(ifName string, address, gateway netip.Addr) error {
	link, err := netlink.LinkByName(ifName)
	if err != nil {
		return fmt.Errorf("find %s in pod: %w", ifName, err)
	}
	if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: single(address)}); err != nil {
		return fmt.Errorf("give %s to pod: %w", address, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up in pod: %w", ifName, err)
	}
	index := link.Attrs().Index
	toGateway := netlink.Route{LinkIndex: index, Dst: single(gateway), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteAdd(&toGateway); err != nil {
		return fmt.Errorf("add route to gateway %s: %w", gateway, err)
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: index, Gw: net.IP(gateway.AsSlice())}); err != nil {
		return fmt.Errorf("add default route via %s: %w", gateway, err)
	}
	return nil
}

// routeTo sets up the node's end. It has the gateway's address, so it answers
// when the pod or the guest in it asks who the gateway is.
func routeTo(hostEnd string, address, gateway netip.Addr) error {
	link, err := netlink.LinkByName(hostEnd)
	if err != nil {
		return fmt.Errorf("find cable %s: %w", hostEnd, err)
	}
	if err := netlink.LinkSetHardwareAddr(link, gatewayMAC); err != nil {
		return fmt.Errorf("set address of cable %s: %w", hostEnd, err)
	}
	// Of link scope, or the node would use it as its own when it talks to others.
	own := &netlink.Addr{IPNet: single(gateway), Scope: int(netlink.SCOPE_LINK)}
	if err := netlink.AddrAdd(link, own); err != nil {
		return fmt.Errorf("give gateway %s to cable %s: %w", gateway, hostEnd, err)
	}
	if err := forward(); err != nil {
		return err
	}
	route := netlink.Route{LinkIndex: link.Attrs().Index, Dst: single(address), Scope: netlink.SCOPE_LINK}
	if err := netlink.RouteReplace(&route); err != nil {
		return fmt.Errorf("add route to pod %s: %w", address, err)
	}
	return nil
}

func forward() error {
	if err := os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644); err != nil {
		return fmt.Errorf("let the node forward packets: %w", err)
	}
	return nil
}

// Detach takes the cable away; address and route go with it. A pod without
// namespace or cable is detached already.
func (routed) Detach(netns, ifName string) error {
	if netns == "" {
		return nil
	}
	err := ns.WithNetNSPath(netns, func(ns.NetNS) error {
		err := ip.DelLinkByName(ifName)
		if errors.Is(err, ip.ErrLinkNotFound) {
			return nil
		}
		return err
	})
	var gone ns.NSPathNotExistErr
	if errors.As(err, &gone) {
		return nil
	}
	return err
}

// Check looks whether the pod still has its address.
func (routed) Check(netns, ifName string, address netip.Addr) error {
	return ns.WithNetNSPath(netns, func(ns.NetNS) error {
		link, err := netlink.LinkByName(ifName)
		if err != nil {
			return fmt.Errorf("find %s in pod: %w", ifName, err)
		}
		addresses, err := netlink.AddrList(link, netlink.FAMILY_V4)
		if err != nil {
			return fmt.Errorf("list addresses of pod: %w", err)
		}
		for _, a := range addresses {
			if a.IP.Equal(net.IP(address.AsSlice())) {
				return nil
			}
		}
		return fmt.Errorf("pod does not have its address %s any more", address)
	})
}

// single is the network of exactly one address.
func single(a netip.Addr) *net.IPNet {
	return &net.IPNet{IP: net.IP(a.AsSlice()), Mask: net.CIDRMask(32, 32)}
}
