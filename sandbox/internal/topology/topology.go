// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package topology fixes who is where in the sandbox: nodes, addresses, names.
package topology

import (
	"fmt"
	"net/netip"
)

// Addresses and names that everything in the sandbox agrees on.
var (
	// NodeNetwork holds the nodes; SwitchAddress is the supervisor's end of it.
	NodeNetwork   = netip.MustParsePrefix("10.77.0.0/24")
	SwitchAddress = netip.MustParseAddr("10.77.0.254")
	// PodNetwork is cut into one /24 for each node.
	PodNetwork     = netip.MustParsePrefix("10.244.0.0/16")
	ServiceNetwork = netip.MustParsePrefix("10.96.0.0/16")
	// APIService and DNSService are fixed by convention.
	APIService = netip.MustParseAddr("10.96.0.1")
	DNSService = netip.MustParseAddr("10.96.0.10")
	// GuestsService serves the guests' disks; the module has to allow downloads from it.
	GuestsService = netip.MustParseAddr("10.96.0.80")
	// MachineNetwork is where virtual machines get their addresses from.
	MachineNetwork = netip.MustParsePrefix("10.66.10.0/24")
	// MachineGateway is link-local: it is the same on every node, so a guest
	// that moves to another node keeps its gateway.
	MachineGateway = netip.MustParseAddr("169.254.1.1")
)

const (
	// PublicDomain ends the names under which the cluster is reached from outside.
	PublicDomain = "sandbox.internal"
	// ClusterDomain ends the names of Services.
	ClusterDomain = "cluster.local"
	// APIPort is where the API server listens on its node.
	APIPort = 6443
	// RegistryHost is the registry that image references name. Nothing listens
	// there: images are imported into the nodes.
	RegistryHost = "registry.sandbox.internal"
)

// Node is one node of the cluster.
type Node struct {
	Name         string
	Address      netip.Addr
	PodNetwork   netip.Prefix
	ControlPlane bool
}

// Nodes returns the first n nodes; the first one holds the control plane.
func Nodes(n int) []Node {
	nodes := make([]Node, 0, n)
	for i := 1; i <= n; i++ {
		b := NodeNetwork.Addr().As4()
		b[3] = byte(i)
		p := PodNetwork.Addr().As4()
		p[2] = byte(i)
		nodes = append(nodes, Node{
			Name:         fmt.Sprintf("node-%d", i),
			Address:      netip.AddrFrom4(b),
			PodNetwork:   netip.PrefixFrom(netip.AddrFrom4(p), 24),
			ControlPlane: i == 1,
		})
	}
	return nodes
}

// IngressAddress is where the cluster is reached from outside: the ingress
// controller listens on the first node.
func IngressAddress() netip.AddrPort { return netip.AddrPortFrom(Nodes(1)[0].Address, 443) }

// Admission is where the API server has ModuleConfigs judged, on the machine's end of
// the nodes' network.
func Admission() netip.AddrPort { return netip.AddrPortFrom(SwitchAddress, 4290) }

// DeckhouseMetrics is where Prometheus asks what hooks have found out.
func DeckhouseMetrics() netip.AddrPort { return netip.AddrPortFrom(SwitchAddress, 4291) }

// APIServer is the API server's address in the nodes' network.
func APIServer() string { return fmt.Sprintf("%s:%d", Nodes(1)[0].Address, APIPort) }
