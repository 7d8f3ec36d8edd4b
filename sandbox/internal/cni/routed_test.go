// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cni

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/vishvananda/netlink"

	"github.com/deckhouse/virtualization/sandbox/internal/nstest"
)

var (
	address = netip.MustParseAddr("10.66.10.5")
	gateway = netip.MustParseAddr("169.254.1.1")
)

// attach connects a pod in a fresh node, which is the namespace of the test.
func attach(t *testing.T, a netip.Addr) (pid int, result *current.Result) {
	t.Helper()
	pid = nstest.Node(t)
	r, err := routed{}.Attach(path(pid), "eth0", a, gateway, "1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	result, err = current.NewResultFromResult(r)
	if err != nil {
		t.Fatal(err)
	}
	return pid, result
}

func path(pid int) string { return fmt.Sprintf("/proc/%d/ns/net", pid) }

func reach(from, to string) error {
	d := net.Dialer{Timeout: 5 * time.Second}
	if from != "" {
		d.LocalAddr = &net.TCPAddr{IP: net.ParseIP(from)}
	}
	conn, err := d.Dial("tcp", to)
	if err != nil {
		return err
	}
	return conn.Close()
}

func serve(t *testing.T, pid int, on string) {
	t.Helper()
	nstest.In(t, pid, func() error {
		l, err := net.Listen("tcp", on)
		if err == nil {
			t.Cleanup(func() { l.Close() })
		}
		return err
	})
}

func TestPodsWithAnAddressReachEachOtherAndTheNode(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	first, result := attach(t, address)
	second, _ := attach(t, netip.MustParseAddr("10.66.10.6"))
	if got := result.IPs[0].Address.String(); got != "10.66.10.5/32" {
		t.Errorf("result has address %s", got)
	}
	serve(t, first, "10.66.10.5:80")
	if err := reach("", "10.66.10.5:80"); err != nil {
		t.Errorf("from the node: %v", err)
	}
	nstest.In(t, second, func() error { return reach("10.66.10.6", "10.66.10.5:80") })
	l, err := net.Listen("tcp", "169.254.1.1:81")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	nstest.In(t, first, func() error { return reach("10.66.10.5", "169.254.1.1:81") })
}

// A guest keeps the address of its gateway when it moves to another node.
func TestGatewayLooksTheSameOnEveryCable(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	for _, a := range []string{"10.66.10.5", "10.66.10.6"} {
		_, result := attach(t, netip.MustParseAddr(a))
		link, err := netlink.LinkByName(result.Interfaces[0].Name)
		if err != nil {
			t.Fatal(err)
		}
		if got := link.Attrs().HardwareAddr.String(); got != "02:66:10:00:00:01" || result.Interfaces[0].Mac != got {
			t.Errorf("cable of %s has %s, result says %s", a, got, result.Interfaces[0].Mac)
		}
	}
}

func TestDetachLeavesNothing(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	pid, result := attach(t, address)
	if err := (routed{}).Check(path(pid), "eth0", address); err != nil {
		t.Errorf("check of a connected pod: %v", err)
	}
	for range 2 {
		if err := (routed{}).Detach(path(pid), "eth0"); err != nil {
			t.Fatal(err)
		}
	}
	if err := (routed{}).Check(path(pid), "eth0", address); err == nil {
		t.Error("check of a disconnected pod passes")
	}
	if _, err := netlink.LinkByName(result.Interfaces[0].Name); err == nil {
		t.Error("the node's end is still there")
	}
	routes, err := netlink.RouteList(nil, netlink.FAMILY_V4)
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range routes {
		if r.Dst != nil && r.Dst.IP.Equal(net.IP(address.AsSlice())) {
			t.Errorf("route %v is still there", r)
		}
	}
}

// During a migration the address is on its way from one pod to another.
func TestAnAddressMayMoveToAnotherPod(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	first, _ := attach(t, address)
	second, _ := attach(t, address)
	serve(t, second, "10.66.10.5:80")
	if err := reach("", "10.66.10.5:80"); err != nil {
		t.Errorf("the new pod is not reached: %v", err)
	}
	if err := (routed{}).Detach(path(first), "eth0"); err != nil {
		t.Fatal(err)
	}
	if err := reach("", "10.66.10.5:80"); err != nil {
		t.Errorf("the new pod is not reached when the old one is gone: %v", err)
	}
}

func TestNodeForwards(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	attach(t, address)
	if got, err := os.ReadFile("/proc/sys/net/ipv4/ip_forward"); err != nil || string(got) != "1\n" {
		t.Errorf("forwarding is %q, %v", got, err)
	}
}
