// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"hash/fnv"
	"net/netip"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/types"
)

// leasePrefix begins the name of every lease.
const leasePrefix = "ip-"

const (
	ipv4Groups = 4
	ipv6Groups = 8
)

// LeaseName names the lease of an address. An IPv4 address gives its four
// decimal numbers (ip-10-66-10-5), an IPv6 address its eight groups of four
// hexadecimal digits in full (ip-fd00-0000-0000-0000-0000-0000-0000-0005): each
// address has exactly one name, which is what makes creating a lease a lock.
func LeaseName(address netip.Addr) string {
	address = address.Unmap().WithZone("")
	if address.Is4() {
		return leasePrefix + strings.ReplaceAll(address.String(), ".", "-")
	}
	return leasePrefix + strings.ReplaceAll(address.StringExpanded(), ":", "-")
}

// ParseLeaseName reads the address back from the name of its lease. A name that
// LeaseName would not have given is refused: two names for one address would be
// two locks.
func ParseLeaseName(name string) (netip.Addr, error) {
	groups := strings.Split(strings.TrimPrefix(name, leasePrefix), "-")
	var text string
	switch len(groups) {
	case ipv4Groups:
		text = strings.Join(groups, ".")
	case ipv6Groups:
		text = strings.Join(groups, ":")
	default:
		return netip.Addr{}, leaseNameError(name)
	}
	address, err := netip.ParseAddr(text)
	if err != nil || LeaseName(address) != name {
		return netip.Addr{}, leaseNameError(name)
	}
	return address, nil
}

func leaseNameError(name string) error {
	return fmt.Errorf("lease name %s does not encode an address: want ip-10-66-10-5 or ip- and eight groups of four hexadecimal digits", strconv.Quote(name))
}

// ClaimName names the address claim that the platform makes for a machine. It
// follows the machine's uid, so that making it twice is making it once, and so
// that a machine that was deleted and made again does not meet the claim of its
// namesake.
func ClaimName(machine string, uid types.UID) string {
	hash := fnv.New32a()
	hash.Write([]byte(uid))
	return fmt.Sprintf("%s-%08x", machine, hash.Sum32())
}
