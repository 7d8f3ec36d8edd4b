// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package network makes the sandbox's own network: a namespace with a bridge as
// the switch, and a cable from it into the namespace of each node. Nothing of
// the machine's network is touched, and the kernel removes all of it when the
// last process that holds the namespace ends.
package network

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"runtime"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

const (
	bridgeName = "br0"
	// UplinkName is the name of a node's end of its cable.
	UplinkName = "eth0"
)

// Switch is the namespace with the bridge.
type Switch struct {
	ns     netns.NsHandle
	handle *netlink.Handle
	bridge netlink.Link
}

// NewSwitch makes a namespace that has no name anywhere, with a bridge that has
// the given address.
func NewSwitch(address netip.Prefix) (*Switch, error) {
	ns, err := newNamespace()
	if err != nil {
		return nil, err
	}
	handle, err := netlink.NewHandleAt(ns)
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("open switch namespace: %w", err)
	}
	s := &Switch{ns: ns, handle: handle}
	if err := s.setUp(address); err != nil {
		s.Close()
		return nil, fmt.Errorf("set up switch: %w", err)
	}
	return s, nil
}

// Close gives the namespace back; the bridge and all cables go with it.
func (s *Switch) Close() {
	s.handle.Close()
	s.ns.Close()
}

func (s *Switch) setUp(address netip.Prefix) error {
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: bridgeName}}
	if err := s.handle.LinkAdd(bridge); err != nil {
		return fmt.Errorf("add bridge: %w", err)
	}
	s.bridge = bridge
	if err := s.handle.AddrAdd(bridge, &netlink.Addr{IPNet: toIPNet(address)}); err != nil {
		return fmt.Errorf("give the bridge its address: %w", err)
	}
	if err := s.handle.LinkSetUp(bridge); err != nil {
		return err
	}
	// A switch must not let packets through the firewall rules of nodes.
	return s.Do(func() error { return switchOff("/proc/sys/net/bridge/bridge-nf-call-iptables") })
}

// Connect lays a cable from the switch into the network namespace of a process,
// where its end is eth0.
func (s *Switch) Connect(name string, pid int) error {
	port := "p-" + name
	// A cable of a node that died may linger for a moment.
	if old, err := s.handle.LinkByName(port); err == nil {
		if err := s.handle.LinkDel(old); err != nil {
			return fmt.Errorf("remove old cable of %s: %w", name, err)
		}
	}
	cable := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: port, MasterIndex: s.bridge.Attrs().Index},
		PeerName:      UplinkName,
		PeerNamespace: netlink.NsPid(pid),
	}
	if err := s.handle.LinkAdd(cable); err != nil {
		return fmt.Errorf("connect %s to the switch: %w", name, err)
	}
	return s.handle.LinkSetUp(cable)
}

// Do runs a function on a thread that is in the switch's namespace; sockets it
// opens stay there.
func (s *Switch) Do(f func() error) error {
	done := make(chan error, 1)
	go func() {
		// Not unlocked: the thread ends with the goroutine instead of going
		// back to others with a foreign namespace.
		runtime.LockOSThread()
		if err := netns.Set(s.ns); err != nil {
			done <- fmt.Errorf("enter switch namespace: %w", err)
			return
		}
		done <- f()
	}()
	return <-done
}

// newNamespace makes a network namespace held by nothing but a descriptor.
func newNamespace() (netns.NsHandle, error) {
	type result struct {
		ns  netns.NsHandle
		err error
	}
	done := make(chan result, 1)
	go func() {
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- result{err: fmt.Errorf("make a network namespace: %w: run as root", err)}
			return
		}
		ns, err := netns.Get()
		done <- result{ns: ns, err: err}
	}()
	r := <-done
	return r.ns, r.err
}

func toIPNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: net.IP(p.Addr().AsSlice()), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// switchOff clears a kernel parameter that not every kernel has.
func switchOff(path string) error {
	err := os.WriteFile(path, []byte("0"), 0o644)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	return err
}
