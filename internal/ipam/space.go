// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"container/list"
	"net/netip"
)

// space is a range with what is free in it. Every address below next is either
// taken or a hole; from next on nobody has looked. So it needs memory for the
// addresses that were used, not for all there are: a range of IPv6 has too many to
// keep a bit for each.
type space struct {
	addressRange
	next netip.Addr
	// holes are the free addresses below next, the one that is free for longest
	// first; hole finds one of them.
	holes *list.List
	hole  map[netip.Addr]*list.Element

	held, released int
}

func newSpace(r addressRange) space {
	return space{addressRange: r, next: r.first, holes: list.New(), hole: map[netip.Addr]*list.Element{}}
}

// first finds the address to give away next and leaves it free. What is taken at
// next is passed over once and for all.
func (s *space) first(taken func(netip.Addr) bool) (netip.Addr, bool) {
	if front := s.holes.Front(); front != nil {
		return front.Value.(netip.Addr), true
	}
	// After the last address of all there is no valid one.
	for s.next.IsValid() && !s.last.Less(s.next) {
		if !taken(s.next) {
			return s.next, true
		}
		s.next = s.next.Next()
	}
	return netip.Addr{}, false
}

// occupy notes that an address is taken.
func (s *space) occupy(address netip.Addr) {
	if element, isHole := s.hole[address]; isHole {
		s.holes.Remove(element)
		delete(s.hole, address)
	}
}

// vacate notes that an address is free.
func (s *space) vacate(address netip.Addr) {
	if s.next.IsValid() && !address.Less(s.next) {
		return
	}
	s.hole[address] = s.holes.PushBack(address)
}

// count keeps the numbers of the range's leases.
func (s *space) count(holder Holder, change int) {
	if holder.Name == "" {
		s.released += change
		return
	}
	s.held += change
}
