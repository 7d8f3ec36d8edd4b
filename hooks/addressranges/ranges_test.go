// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"strings"
	"testing"
)

func TestJudge(t *testing.T) {
	nodes := networks("the address of a node", "192.168.1.10", "node-1", "fd00::10")
	pods := networks("the subnet of the pods", "10.244.0.0/16")
	held := []lease{
		{Name: "ip-10-66-10-5", Namespace: "team", Claim: "web"},
		{Name: "ip-10-66-20-5", Namespace: "team", Claim: "db"},
		{Name: "ip-10-66-20-6", Namespace: "other"},
		{Name: "ip-fd00-0000-0000-0000-0000-0000-0000-0005", Namespace: "team", Claim: "six"},
		{Name: "nonsense", Namespace: "team", Claim: "x"},
	}
	tests := []struct {
		name   string
		ranges []string
		others []network
		leases []lease
		want   string
	}{
		{name: "good", ranges: []string{"10.66.10.0/24", "10.66.20.0/24"}, others: append(nodes, pods...), leases: held[:3]},
		{name: "with room for all families", ranges: []string{"10.66.0.0/16", "fd00::/124"}, leases: held},
		{name: "none", leases: held[2:3]},
		{name: "no range", ranges: []string{"10.66.10.0"}, want: `virtualMachineCIDRs: "10.66.10.0" is no range in CIDR notation, such as 10.66.10.0/24`},
		{
			name: "overlapping", ranges: []string{"10.66.10.0/24", "10.66.0.0/16"},
			want: "virtualMachineCIDRs: 10.66.0.0/16 overlaps 10.66.10.0/24: remove one of them",
		},
		{
			name: "a node within", ranges: []string{"10.66.10.0/24", "192.168.0.0/16"}, others: nodes,
			want: "virtualMachineCIDRs: 192.168.0.0/16 overlaps the address of a node, 192.168.1.10: machines need addresses that nothing else has, choose another range",
		},
		{
			name: "of the pods", ranges: []string{"10.244.7.0/24"}, others: pods,
			want: "virtualMachineCIDRs: 10.244.7.0/24 overlaps the subnet of the pods, 10.244.0.0/16: machines need addresses that nothing else has, choose another range",
		},
		{
			name: "a machine falls out", ranges: []string{"10.66.10.0/24"}, leases: held[:3],
			want: "virtualMachineCIDRs: addresses in use are in none of the ranges: 10.66.20.5 (VirtualMachineIPAddress team/db); " +
				"add their range again, or first delete these VirtualMachineIPAddresses or the machines that they belong to (d8 k get virtualmachineipaddressleases shows all)",
		},
		{name: "one of IPv6, too", ranges: []string{"10.66.0.0/16"}, leases: held, want: "none of the ranges: fd00::5 (VirtualMachineIPAddress team/six); add"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			err := judge(test.ranges, test.others, test.leases)
			if (err == nil) != (test.want == "") || (err != nil && !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// With hundreds of machines the message stays readable.
func TestManyLeasesAreCounted(t *testing.T) {
	var held []lease
	for _, name := range []string{"ip-10-66-20-1", "ip-10-66-20-2", "ip-10-66-20-3", "ip-10-66-20-4", "ip-10-66-20-5"} {
		held = append(held, lease{Name: name, Namespace: "team", Claim: name})
	}
	err := judge([]string{"10.66.10.0/24"}, nil, held)
	if err == nil || !strings.Contains(err.Error(), "10.66.20.3 (VirtualMachineIPAddress team/ip-10-66-20-3) and 2 more; add") || strings.Contains(err.Error(), "10.66.20.4") {
		t.Errorf("got %v", err)
	}
	err = judge([]string{"10.66.10.0/24"}, nil, held[:3])
	if err == nil || strings.Contains(err.Error(), "more;") {
		t.Errorf("got %v", err)
	}
}

func TestAddressOf(t *testing.T) {
	for name, want := range map[string]string{
		"ip-10-66-10-5": "10.66.10.5", "ip-fd00-0000-0000-0000-0000-0000-0000-0005": "fd00::5",
		"ip-10-66-10": "", "10-66-10-5": "", "ip-": "", "": "", "ip-10-66-10-256": "",
	} {
		address, ok := addressOf(name)
		if ok != (want != "") || (ok && address.String() != want) {
			t.Errorf("%s: got %s, %v", name, address, ok)
		}
	}
}
