// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"fmt"
	"net/netip"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// namespace is a network namespace that nothing but a descriptor holds: it vanishes
// with the test.
type namespace struct {
	t      testing.TB
	handle netns.NsHandle
}

func newNamespace(t testing.TB) *namespace {
	t.Helper()
	n := &namespace{t: t}
	onThread(t, func() (err error) {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("making a network namespace: %w (these tests need root)", err)
		}
		// Nobody else is there; looking for others takes IPv6 two seconds a device.
		if err := os.WriteFile("/proc/sys/net/ipv6/conf/default/accept_dad", []byte("0"), 0o600); err != nil {
			return err
		}
		n.handle, err = netns.Get()
		return err
	})
	t.Cleanup(func() { _ = n.handle.Close() })
	n.up("lo")
	return n
}

// onThread runs on a thread that nobody uses afterwards.
func onThread(t testing.TB, f func() error) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		done <- f()
	}()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

// do runs in the namespace. Sockets that are opened stay there.
func (n *namespace) do(f func() error) {
	n.t.Helper()
	onThread(n.t, func() error {
		if err := netns.Set(n.handle); err != nil {
			return err
		}
		return f()
	})
}

// kernel is what the router would see there.
func (n *namespace) kernel() *Kernel {
	n.t.Helper()
	var kernel *Kernel
	n.do(func() (err error) { kernel, err = NewKernel(); return err })
	return kernel
}

func (n *namespace) up(device string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
}

func (n *namespace) down(device string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
}

// address gives an address to a device. Without looking for another owner first, or
// IPv6 would not use it for a second.
func (n *namespace) address(device, text string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		given := &netlink.Addr{IPNet: toIPNet(netip.MustParsePrefix(text))}
		if given.IP.To4() == nil {
			given.Flags = unix.IFA_F_NODAD
		}
		return netlink.AddrAdd(link, given)
	})
}

// route is one in the main table: through a device, or by a gateway when via is set.
func (n *namespace) route(to, via, device string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		route := &netlink.Route{Dst: toIPNet(prefix(to)), LinkIndex: link.Attrs().Index}
		if route.Scope = netlink.SCOPE_LINK; via != "" {
			route.Scope, route.Gw = netlink.SCOPE_UNIVERSE, addr(via).AsSlice()
		}
		return netlink.RouteReplace(route)
	})
}

// forward lets the namespace pass packets on, as a node does.
func (n *namespace) forward() {
	n.t.Helper()
	n.do(func() error {
		for _, file := range []string{"/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"} {
			if err := os.WriteFile(file, []byte("1"), 0o600); err != nil {
				return err
			}
		}
		return nil
	})
}

// cable joins two namespaces; its ends are devices of the given names.
func cable(t testing.TB, a *namespace, nameA string, b *namespace, nameB string) {
	t.Helper()
	a.do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: nameA}, PeerName: nameB, PeerNamespace: netlink.NsFd(int(b.handle)),
		})
	})
	a.up(nameA)
	b.up(nameB)
}

// newNode is a namespace with a cable to another one, which is returned too.
func newNode(t testing.TB) (node, other *namespace) {
	t.Helper()
	node, other = newNamespace(t), newNamespace(t)
	cable(t, node, "eth0", other, "eth0")
	for _, address := range []string{"10.77.0.1/24", "fd77::1/64"} {
		node.address("eth0", address)
	}
	for _, address := range []string{"10.77.0.2/24", "fd77::2/64"} {
		other.address("eth0", address)
	}
	return node, other
}
