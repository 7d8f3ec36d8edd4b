// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package network

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/deckhouse/virtualization/sandbox/internal/nstest"
)

// twoNodes connects two nodes to a switch; each has a network of pods behind it.
func twoNodes(t *testing.T) (s *Switch, first, second int) {
	t.Helper()
	s, err := NewSwitch(netip.MustParsePrefix("10.77.0.254/24"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	first, second = nstest.Node(t), nstest.Node(t)
	for i, pid := range []int{first, second} {
		if err := s.Connect(fmt.Sprintf("node-%d", i+1), pid); err != nil {
			t.Fatal(err)
		}
		other := 2 - i
		nstest.In(t, pid, func() error {
			return Configure(Uplink{
				Address: netip.MustParsePrefix(fmt.Sprintf("10.77.0.%d/24", i+1)),
				Routes: []Route{
					{To: netip.MustParsePrefix("0.0.0.0/0"), Via: netip.MustParseAddr("10.77.0.254")},
					{To: netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", other)), Via: netip.MustParseAddr(fmt.Sprintf("10.77.0.%d", other))},
				},
			})
		})
	}
	return s, first, second
}

// listen serves on an address in a node.
func listen(t *testing.T, pid int, address string) {
	t.Helper()
	nstest.In(t, pid, func() error {
		l, err := net.Listen("tcp", address)
		if err != nil {
			return err
		}
		t.Cleanup(func() { l.Close() })
		return nil
	})
}

func dial(address string) error {
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err != nil {
		return err
	}
	return conn.Close()
}

func TestNodesReachEachOther(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	s, first, second := twoNodes(t)
	listen(t, second, "10.77.0.2:80")
	nstest.In(t, first, func() error { return dial("10.77.0.2:80") })
	if err := s.Do(func() error { return dial("10.77.0.2:80") }); err != nil {
		t.Errorf("from the switch: %v", err)
	}
}

func TestNodesReachEachOthersPods(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	_, first, second := twoNodes(t)
	nstest.In(t, second, func() error {
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, &netlink.Addr{IPNet: toIPNet(netip.MustParsePrefix("10.244.2.5/32"))})
	})
	listen(t, second, "10.244.2.5:80")
	nstest.In(t, first, func() error { return dial("10.244.2.5:80") })
}

// A node that is started again gets a new cable while the old one may linger.
func TestConnectReplacesACable(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	s, _, second := twoNodes(t)
	again := nstest.Node(t)
	if err := s.Connect("node-1", again); err != nil {
		t.Fatal(err)
	}
	nstest.In(t, again, func() error { return Configure(Uplink{Address: netip.MustParsePrefix("10.77.0.1/24")}) })
	listen(t, again, "10.77.0.1:80")
	nstest.In(t, second, func() error { return dial("10.77.0.1:80") })
}

func TestSwitchLeavesTheMachinesNetworkAlone(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	twoNodes(t)
	links, err := netlink.LinkList()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range links {
		if l.Attrs().Name != "lo" && l.Type() != "sit" && l.Type() != "ipip" && l.Type() != "ip6tnl" {
			t.Errorf("link %s of type %s appeared", l.Attrs().Name, l.Type())
		}
	}
}

func TestConfigureWithoutCable(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	nstest.In(t, nstest.Node(t), func() error {
		if err := Configure(Uplink{Address: netip.MustParsePrefix("10.77.0.1/24")}); err == nil {
			return fmt.Errorf("no error without a cable")
		}
		return nil
	})
}
