// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"
)

// ErrNoRanges means that the pool has no ranges at all.
var ErrNoRanges = errors.New("no address ranges are configured")

// Pool is the list of ranges that machines get their addresses from. The zero
// Pool is empty.
type Pool struct {
	ranges []addressRange
}

// addressRange is one CIDR with the part of it that may be given away.
type addressRange struct {
	prefix      netip.Prefix
	first, last netip.Addr
}

// NewPool reads the ranges in CIDR notation. Their order is the order in which
// they are used up. Ranges must not overlap.
func NewPool(cidrs []string) (Pool, error) {
	var pool Pool
	for i, cidr := range cidrs {
		prefix, err := netip.ParsePrefix(strings.TrimSpace(cidr))
		if err != nil {
			return Pool{}, fmt.Errorf("virtualMachineCIDRs[%d] %q is no range in CIDR notation such as 10.66.10.0/24: %w", i, cidr, err)
		}
		prefix = prefix.Masked()
		for _, other := range pool.ranges {
			if other.prefix.Overlaps(prefix) {
				return Pool{}, fmt.Errorf("virtualMachineCIDRs[%d] %s overlaps %s: remove one of them", i, prefix, other.prefix)
			}
		}
		pool.ranges = append(pool.ranges, newRange(prefix))
	}
	return pool, nil
}

// newRange leaves out the first address (the network's own) and the last one
// (broadcast). A range of one or two addresses has neither.
func newRange(prefix netip.Prefix) addressRange {
	r := addressRange{prefix: prefix, first: prefix.Addr(), last: lastOf(prefix)}
	if prefix.Addr().BitLen()-prefix.Bits() > 1 {
		r.first, r.last = r.first.Next(), r.last.Prev()
	}
	return r
}

func lastOf(prefix netip.Prefix) netip.Addr {
	raw := prefix.Addr().AsSlice()
	for bit := prefix.Bits(); bit < len(raw)*8; bit++ {
		raw[bit/8] |= 1 << (7 - bit%8)
	}
	last, _ := netip.AddrFromSlice(raw)
	return last
}

// has tells whether the address may be given away.
func (r addressRange) has(address netip.Addr) bool {
	return r.prefix.Contains(address) && !address.Less(r.first) && !r.last.Less(address)
}

// size counts the addresses that may be given away.
func (r addressRange) size() float64 {
	bits := r.prefix.Addr().BitLen() - r.prefix.Bits()
	if bits > 1 {
		return math.Ldexp(1, bits) - 2
	}
	return math.Ldexp(1, bits)
}

// IsEmpty tells whether the pool has no ranges.
func (p Pool) IsEmpty() bool { return len(p.ranges) == 0 }

// String lists the ranges.
func (p Pool) String() string {
	names := make([]string, 0, len(p.ranges))
	for _, r := range p.ranges {
		names = append(names, r.prefix.String())
	}
	return strings.Join(names, ", ")
}

// Check tells whether the address may be given to a machine; the error says why
// not.
func (p Pool) Check(address netip.Addr) error {
	if p.IsEmpty() {
		return ErrNoRanges
	}
	for _, r := range p.ranges {
		if !r.prefix.Contains(address) {
			continue
		}
		switch {
		case address.Less(r.first):
			return fmt.Errorf("%s is the address of the network %s itself", address, r.prefix)
		case r.last.Less(address):
			return fmt.Errorf("%s is the broadcast address of %s", address, r.prefix)
		}
		return nil
	}
	return fmt.Errorf("%s is outside the ranges %s", address, p)
}
