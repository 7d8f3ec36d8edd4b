// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"fmt"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/hooks/hooktest"
)

const (
	heldLease = `
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineIPAddressLease
metadata: {name: ip-10-66-20-5}
spec: {virtualMachineIPAddressRef: {namespace: team, name: web}}
`
	releasedLease = `
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineIPAddressLease
metadata: {name: ip-10-66-30-5}
spec: {virtualMachineIPAddressRef: {namespace: team, name: ""}}
`
	emptyLease = `
apiVersion: virtualization.deckhouse.io/v1alpha2
kind: VirtualMachineIPAddressLease
metadata: {name: ip-10-66-40-5}
`
	node = `
apiVersion: v1
kind: Node
metadata: {name: node-1}
status: {addresses: [{type: Hostname, address: node-1}, {type: InternalIP, address: 192.168.1.10}]}
`
	newNode = `
apiVersion: v1
kind: Node
metadata: {name: node-2}
`
)

func run(ranges string) hooktest.Run {
	return hooktest.Run{
		Config: Config, Objects: []string{heldLease, releasedLease, emptyLease, node, newNode},
		Values: fmt.Sprintf("{global: {discovery: {podSubnet: 10.244.0.0/16, serviceSubnet: '10.96.0.0/16,fd01::/112'}}, virtualization: {virtualMachineCIDRs: [%s]}}", ranges),
	}
}

func TestHandle(t *testing.T) {
	if set := run("10.66.20.0/24, 10.66.10.0/24").Handle(t, Handle).Paths(); len(set) > 0 {
		t.Errorf("sets %v: it only judges", set)
	}
	for ranges, want := range map[string]string{
		"10.66.10.0/24":                       "10.66.20.5 (VirtualMachineIPAddress team/web);",
		"10.66.20.0/24, 10.66.20.0/25":        "overlaps 10.66.20.0/24",
		"10.66.20.0/24, 192.168.1.0/24":       "overlaps the address of a node, 192.168.1.10",
		"10.66.20.0/24, 10.0.0.0/8":           "10.0.0.0/8 overlaps 10.66.20.0/24",
		"10.66.20.0/24, 10.244.0.0/24":        "overlaps the subnet of the pods",
		"10.66.20.0/24, 10.96.128.0/24":       "overlaps the subnet of the services, 10.96.0.0/16",
		"10.66.20.0/24, 'fd01::/120'":         "overlaps the subnet of the services, fd01::/112",
		"10.66.20.0/24, 10.66.30.0":           "is no range in CIDR notation",
		"10.66.20.0/24, '', 10.66.20.0/24":    "is no range in CIDR notation",
		"10.66.30.0/24, 10.66.40.0/24":        "10.66.20.5",
		"10.66.20.0/24, 10.66.21.0/24, 0::/0": "overlaps the subnet of the services",
	} {
		if got := run(ranges).Fail(t, Handle); !strings.Contains(got.Error(), want) {
			t.Errorf("%s: got %v, want %q", ranges, got, want)
		}
	}
}

// A change of machines is no reason to run the module again; the next run sees it.
func TestNothingStartsTheHook(t *testing.T) {
	for _, binding := range Config.Kubernetes {
		if *binding.ExecuteHookOnEvents || *binding.ExecuteHookOnSynchronization {
			t.Errorf("%s starts the hook", binding.Name)
		}
	}
}
