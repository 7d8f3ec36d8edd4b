// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package addressranges refuses ranges of machine addresses that can't work, or that machines would fall out of.
//
// It looks twice. The check of settings answers whoever applies a ModuleConfig. The hook before Helm is for what
// the check did not see: an older Deckhouse, which does not ask it, or a machine that came a moment later. Either
// way the module goes on with what it had.
package addressranges

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/deckhouse/virtualization/hooks/settings"
)

// setting is the name under which users know the ranges.
const setting = "virtualMachineCIDRs"

// shown is how many addresses a message names before it counts.
const shown = 3

// lease is a VirtualMachineIPAddressLease as far as it matters here.
type lease struct {
	// Name tells the address.
	Name string `json:"name"`
	// Namespace and Claim are who holds it; there is no claim when the lease was released.
	Namespace string `json:"namespace"`
	Claim     string `json:"claim"`
}

// network is one that machines may not share, with what it is.
type network struct {
	prefix netip.Prefix
	title  string
}

// judge tells why machines can't have their addresses from the ranges; nil when they can.
func judge(texts []string, others []network, leases []lease) error {
	ranges, err := parse(texts)
	if err != nil {
		return err
	}
	for _, each := range ranges {
		for _, other := range others {
			if each.Overlaps(other.prefix) {
				return fmt.Errorf("%s: %s overlaps %s, %s: machines need addresses that nothing else has, choose another range",
					setting, each, other.title, describe(other.prefix))
			}
		}
	}
	return judgeLeases(ranges, leases)
}

func parse(texts []string) ([]netip.Prefix, error) {
	var ranges []netip.Prefix
	for _, text := range texts {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %q is no range in CIDR notation, such as 10.66.10.0/24", setting, text)
		}
		prefix = prefix.Masked()
		for _, other := range ranges {
			if other.Overlaps(prefix) {
				return nil, fmt.Errorf("%s: %s overlaps %s: remove one of them", setting, prefix, other)
			}
		}
		ranges = append(ranges, prefix)
	}
	return ranges, nil
}

// judgeLeases finds addresses that are held and would be outside. A released lease holds nothing: nobody may take
// it again outside of the ranges.
func judgeLeases(ranges []netip.Prefix, leases []lease) error {
	var outside []string
	for _, each := range leases {
		address, ok := addressOf(each.Name)
		if ok && each.Claim != "" && !contains(ranges, address) {
			outside = append(outside, fmt.Sprintf("%s (VirtualMachineIPAddress %s/%s)", address, each.Namespace, each.Claim))
		}
	}
	if len(outside) == 0 {
		return nil
	}
	text := strings.Join(outside[:min(shown, len(outside))], ", ")
	if more := len(outside) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Errorf("%s: addresses in use are in none of the ranges: %s; add their range again, or first delete these "+
		"VirtualMachineIPAddresses or the machines that they belong to (d8 k get virtualmachineipaddressleases shows all)", setting, text)
}

// addressOf reads an address from the name of its lease: ip-10-66-10-5, or ip- and eight groups for IPv6. Other
// names are no locks on any address.
func addressOf(name string) (netip.Addr, bool) {
	text, ok := strings.CutPrefix(name, "ip-")
	separator := ":"
	if strings.Count(text, "-") == 3 {
		separator = "."
	}
	address, err := netip.ParseAddr(strings.ReplaceAll(text, "-", separator))
	return address, ok && err == nil
}

func contains(ranges []netip.Prefix, address netip.Addr) bool {
	for _, each := range ranges {
		if each.Contains(address) {
			return true
		}
	}
	return false
}

// describe writes a single address as such.
func describe(prefix netip.Prefix) string {
	if prefix.IsSingleIP() {
		return prefix.Addr().String()
	}
	return prefix.String()
}

// networks reads networks or addresses that are all of the same use; what can't be read is left out.
func networks(title string, texts ...string) []network {
	var found []network
	for _, text := range texts {
		text = strings.TrimSpace(text)
		if address, err := netip.ParseAddr(text); err == nil {
			found = append(found, network{netip.PrefixFrom(address, address.BitLen()), title})
		} else if prefix, err := netip.ParsePrefix(text); err == nil {
			found = append(found, network{prefix.Masked(), title})
		}
	}
	return found
}

const (
	podsTitle     = "the subnet of the pods"
	servicesTitle = "the subnet of the services"
)

// subnets of the platform, as the values know them.
var subnets = map[string]string{
	settings.PodSubnet:     podsTitle,
	settings.ServiceSubnet: servicesTitle,
}
