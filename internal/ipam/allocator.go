// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/utils/clock"
)

// Holder is who has an address.
type Holder struct {
	Namespace string
	// Name is the claim; empty when the address was released and is kept for the
	// namespace.
	Name string
}

// PromiseTime is how long an address stays taken after Reserve or Promise when no
// lease shows up. It is longer than any cache lags in health; when one lags more,
// the address is proposed again and the API server refuses its second lease.
const PromiseTime = time.Minute

// Allocator knows who has which address and finds a free one. Every operation
// takes the same time, however many addresses are taken.
//
// It only proposes: the lease in the API server decides. What it knows may lag
// behind (Observe and Forget are called by a watch) or run ahead (Reserve and
// Promise are called before a lease is made). What runs ahead ends by itself after
// PromiseTime, so that nothing that a watch never tells of, such as a lease that
// was deleted while the connection was away, keeps an address taken for ever.
//
// It may be used by several goroutines at once.
type Allocator struct {
	pool  Pool
	clock clock.PassiveClock

	mu     sync.Mutex
	spaces []space
	taken  map[netip.Addr]entry
	// held is taken, by holder.
	held map[Holder]sets.Set[netip.Addr]
	// promises are in the order of their end; one that was confirmed or given back
	// meanwhile is still among them.
	promises []promise
}

// entry is what is known of an address that is taken.
type entry struct {
	holder Holder
	// until is the end of a promise; zero when the lease was seen.
	until time.Time
}

type promise struct {
	address netip.Addr
	until   time.Time
}

// NewAllocator makes an allocator that takes all of the pool for free.
func NewAllocator(pool Pool, passive clock.PassiveClock) *Allocator {
	a := &Allocator{pool: pool, clock: passive, taken: map[netip.Addr]entry{}, held: map[Holder]sets.Set[netip.Addr]{}}
	for _, r := range pool.ranges {
		a.spaces = append(a.spaces, newSpace(r))
	}
	return a
}

// Pool is what addresses are taken from.
func (a *Allocator) Pool() Pool { return a.pool }

// Observe notes a lease that exists, in the pool or outside.
func (a *Allocator) Observe(address netip.Addr, holder Holder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.take(address, entry{holder: holder})
}

// Forget notes that there is no lease of the address.
func (a *Allocator) Forget(address netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.free(address)
}

// Promise notes a lease that most likely exists or is about to, although the watch
// has not told of it. What the watch has told stands.
func (a *Allocator) Promise(address netip.Addr, holder Holder) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire()
	if have, known := a.taken[address]; known && have.until.IsZero() {
		return
	}
	a.promise(address, holder)
}

// Reserve promises a free address to the holder; it is false when there is none.
// Ranges are used up in their order. Within one, addresses that were given back come
// first, the one that is free for longest before the others, then those that nobody
// ever had, from the lowest up.
func (a *Allocator) Reserve(holder Holder) (netip.Addr, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire()
	for i := range a.spaces {
		if address, ok := a.spaces[i].first(a.isTaken); ok {
			a.promise(address, holder)
			return address, true
		}
	}
	return netip.Addr{}, false
}

// Return gives back an address that was promised and for which no lease was made.
// When the watch has told of a lease since, that stands.
func (a *Allocator) Return(address netip.Addr) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if have, known := a.taken[address]; known && !have.until.IsZero() {
		a.free(address)
	}
}

// HasFree tells whether Reserve would find an address. When it would not, the time
// is when a promise ends next, after which it may: no watch tells of that. It is
// zero when no promise is open.
func (a *Allocator) HasFree() (bool, time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire()
	for i := range a.spaces {
		if _, ok := a.spaces[i].first(a.isTaken); ok {
			return true, time.Time{}
		}
	}
	for _, p := range a.promises {
		if a.taken[p.address].until.Equal(p.until) {
			return false, p.until
		}
	}
	return false, time.Time{}
}

// HeldBy lists the addresses of a holder, the lowest first. The holder without a
// name has those that its namespace released.
func (a *Allocator) HeldBy(holder Holder) []netip.Addr {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire()
	return slices.SortedFunc(maps.Keys(a.held[holder]), netip.Addr.Compare)
}

// Usage is how much of one range is used.
type Usage struct {
	Range netip.Prefix
	// Size counts the addresses that may be given away; a range of IPv6 has more
	// than an integer can count.
	Size float64
	// Held and Released count leases with and without a claim.
	Held, Released int
}

// Usage tells it for every range, in their order.
func (a *Allocator) Usage() []Usage {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.expire()
	out := make([]Usage, 0, len(a.spaces))
	for i := range a.spaces {
		s := &a.spaces[i]
		out = append(out, Usage{Range: s.prefix, Size: s.size(), Held: s.held, Released: s.released})
	}
	return out
}

func (a *Allocator) promise(address netip.Addr, holder Holder) {
	until := a.clock.Now().Add(PromiseTime)
	a.take(address, entry{holder: holder, until: until})
	a.promises = append(a.promises, promise{address, until})
}

// expire ends the promises whose time is over and that nobody confirmed. Each is
// looked at once.
func (a *Allocator) expire() {
	now, done := a.clock.Now(), 0
	for _, p := range a.promises {
		if now.Before(p.until) {
			break
		}
		done++
		// A later promise of the same address has a later end.
		if a.taken[p.address].until.Equal(p.until) {
			a.free(p.address)
		}
	}
	a.promises = a.promises[done:]
}

func (a *Allocator) isTaken(address netip.Addr) bool {
	_, taken := a.taken[address]
	return taken
}

func (a *Allocator) take(address netip.Addr, next entry) {
	a.drop(address)
	a.taken[address] = next
	if a.held[next.holder] == nil {
		a.held[next.holder] = sets.New[netip.Addr]()
	}
	a.held[next.holder].Insert(address)
	if s := a.spaceOf(address); s != nil {
		s.count(next.holder, 1)
		s.occupy(address)
	}
}

func (a *Allocator) free(address netip.Addr) {
	if !a.drop(address) {
		return
	}
	if s := a.spaceOf(address); s != nil {
		s.vacate(address)
	}
}

// drop forgets the holder of an address, if it has one.
func (a *Allocator) drop(address netip.Addr) bool {
	have, known := a.taken[address]
	if !known {
		return false
	}
	delete(a.taken, address)
	if a.held[have.holder].Delete(address); a.held[have.holder].Len() == 0 {
		delete(a.held, have.holder)
	}
	if s := a.spaceOf(address); s != nil {
		s.count(have.holder, -1)
	}
	return true
}

// spaceOf finds the range of an address that may be given away; nil when there is
// none.
func (a *Allocator) spaceOf(address netip.Addr) *space {
	for i := range a.spaces {
		if a.spaces[i].has(address) {
			return &a.spaces[i]
		}
	}
	return nil
}
