// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package topology

import (
	"net/netip"
	"testing"
)

func TestAddresses(t *testing.T) {
	if got := IngressAddress().String(); got != "10.77.0.1:443" {
		t.Errorf("the ingress is at %s, want 10.77.0.1:443", got)
	}
	if judges, tells := Admission().String(), DeckhouseMetrics().String(); judges != "10.77.0.254:4290" || tells != "10.77.0.254:4291" {
		t.Errorf("Deckhouse's side is at %s and %s", judges, tells)
	}
	for _, address := range []netip.Addr{APIService, DNSService, GuestsService} {
		if !ServiceNetwork.Contains(address) {
			t.Errorf("%s is no address of a Service", address)
		}
	}
}

func TestNodes(t *testing.T) {
	nodes := Nodes(2)
	want := []struct {
		name, address, pods string
		controlPlane        bool
	}{
		{"node-1", "10.77.0.1", "10.244.1.0/24", true},
		{"node-2", "10.77.0.2", "10.244.2.0/24", false},
	}
	if len(nodes) != len(want) {
		t.Fatalf("%d nodes", len(nodes))
	}
	for i, w := range want {
		n := nodes[i]
		if n.Name != w.name || n.Address.String() != w.address || n.PodNetwork.String() != w.pods || n.ControlPlane != w.controlPlane {
			t.Errorf("node %d is %+v, want %+v", i, n, w)
		}
	}
}

func TestAPIServer(t *testing.T) {
	if got := APIServer(); got != "10.77.0.1:6443" {
		t.Errorf("got %s", got)
	}
}

// Networks that overlap would make routes ambiguous.
func TestNetworksAreApart(t *testing.T) {
	if NodeNetwork.Overlaps(PodNetwork) || NodeNetwork.Overlaps(ServiceNetwork) || PodNetwork.Overlaps(ServiceNetwork) ||
		MachineNetwork.Overlaps(PodNetwork) || MachineNetwork.Overlaps(ServiceNetwork) || MachineNetwork.Overlaps(NodeNetwork) {
		t.Error("networks overlap")
	}
	if !NodeNetwork.Contains(SwitchAddress) || !ServiceNetwork.Contains(DNSService) || !ServiceNetwork.Contains(APIService) {
		t.Error("an address lies outside its network")
	}
}
