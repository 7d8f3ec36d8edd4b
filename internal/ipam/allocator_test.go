// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipam

import (
	"fmt"
	"math/rand"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	clocktesting "k8s.io/utils/clock/testing"
)

var start = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

func testAllocator(t *testing.T, cidrs ...string) (*Allocator, *clocktesting.FakePassiveClock) {
	t.Helper()
	clock := clocktesting.NewFakePassiveClock(start)
	return NewAllocator(mustPool(t, cidrs...), clock), clock
}

func addr(text string) netip.Addr { return netip.MustParseAddr(text) }

// drain reserves all that there is.
func drain(a *Allocator) string {
	var got []string
	for {
		address, ok := a.Reserve(Holder{"team", fmt.Sprint("claim-", len(got))})
		if !ok {
			return strings.Join(got, " ")
		}
		got = append(got, address.String())
	}
}

func TestReserveInTheOrderOfRanges(t *testing.T) {
	for _, test := range []struct {
		name  string
		cidrs []string
		taken []string
		want  string
	}{
		{name: "all free", cidrs: []string{"10.66.20.0/30", "10.66.10.0/30"}, want: "10.66.20.1 10.66.20.2 10.66.10.1 10.66.10.2"},
		{name: "some taken", cidrs: []string{"10.66.20.0/29"}, taken: []string{"10.66.20.1", "10.66.20.4", "10.66.20.6"}, want: "10.66.20.2 10.66.20.3 10.66.20.5"},
		{name: "taken outside", cidrs: []string{"10.66.20.0/30"}, taken: []string{"10.99.0.1", "10.66.20.0", "10.66.20.3"}, want: "10.66.20.1 10.66.20.2"},
		{name: "two addresses", cidrs: []string{"10.66.20.8/31"}, want: "10.66.20.8 10.66.20.9"},
		{name: "one address", cidrs: []string{"10.66.20.8/32"}, want: "10.66.20.8"},
		{name: "the end of all addresses", cidrs: []string{"255.255.255.254/31"}, want: "255.255.255.254 255.255.255.255"},
		{name: "IPv6", cidrs: []string{"fd00::/126", "10.66.10.0/30"}, want: "fd00::1 fd00::2 10.66.10.1 10.66.10.2"},
		{name: "no ranges", want: ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			a, _ := testAllocator(t, test.cidrs...)
			for _, address := range test.taken {
				a.Observe(addr(address), Holder{"other", "theirs"})
			}
			if got := drain(a); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
			if free, _ := a.HasFree(); free {
				t.Error("still has a free one")
			}
		})
	}
}

// What is free for longest is given away first, and all of it before addresses that
// nobody ever had.
func TestReserveAfterRelease(t *testing.T) {
	a, _ := testAllocator(t, "10.66.10.0/29")
	for range 4 {
		a.Reserve(Holder{"team", "x"})
	}
	for _, address := range []string{"10.66.10.3", "10.66.10.1", "10.66.10.6", "10.66.10.4"} {
		a.Observe(addr(address), Holder{"team", "x"})
		a.Forget(addr(address))
	}
	if got, want := drain(a), "10.66.10.3 10.66.10.1 10.66.10.4 10.66.10.5 10.66.10.6"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// A promise ends by itself, unless a lease shows up.
func TestPromisesEnd(t *testing.T) {
	a, clock := testAllocator(t, "10.66.10.0/30")
	first, _ := a.Reserve(Holder{"team", "a"})
	clock.SetTime(start.Add(20 * time.Second))
	second, _ := a.Reserve(Holder{"team", "b"})
	a.Observe(first, Holder{"team", "a"})
	if free, retry := a.HasFree(); free || !retry.Equal(start.Add(80*time.Second)) {
		t.Errorf("free %v, look again %s", free, retry)
	}
	clock.SetTime(start.Add(80 * time.Second))
	if free, _ := a.HasFree(); !free {
		t.Error("a lease that never showed up keeps its address")
	}
	if got := a.HeldBy(Holder{"team", "b"}); len(got) != 0 {
		t.Errorf("still promised: %s", got)
	}
	if again, ok := a.Reserve(Holder{"team", "c"}); !ok || again != second {
		t.Errorf("got %s", again)
	}
	a.Observe(second, Holder{"team", "c"})
	clock.SetTime(start.Add(time.Hour))
	if free, retry := a.HasFree(); free || !retry.IsZero() {
		t.Errorf("an address with a lease got free: %v %s", free, retry)
	}
}

// Promising an address again makes the promise longer.
func TestPromiseIsRenewed(t *testing.T) {
	a, clock := testAllocator(t, "10.66.10.0/32")
	a.Promise(addr("10.66.10.0"), Holder{"team", "a"})
	clock.SetTime(start.Add(50 * time.Second))
	a.Promise(addr("10.66.10.0"), Holder{"team", "a"})
	clock.SetTime(start.Add(70 * time.Second))
	if free, _ := a.HasFree(); free {
		t.Error("the first promise ended the second one")
	}
	clock.SetTime(start.Add(110 * time.Second))
	if free, _ := a.HasFree(); !free {
		t.Error("the promise never ends")
	}
}

// What the watch has told is not changed by what is only presumed.
func TestTheWatchIsRight(t *testing.T) {
	a, _ := testAllocator(t, "10.66.10.0/30")
	a.Observe(addr("10.66.10.1"), Holder{"other", "theirs"})
	a.Promise(addr("10.66.10.1"), Holder{"team", "web"})
	a.Return(addr("10.66.10.1"))
	if got := a.HeldBy(Holder{"other", "theirs"}); len(got) != 1 {
		t.Errorf("theirs is %s", got)
	}
	reserved, _ := a.Reserve(Holder{"team", "web"})
	// Somebody else was faster: the presumption gives way to another one.
	a.Promise(reserved, Holder{"other", "faster"})
	if mine, faster := a.HeldBy(Holder{"team", "web"}), a.HeldBy(Holder{"other", "faster"}); len(mine) != 0 || len(faster) != 1 {
		t.Errorf("mine %s, the faster one's %s", mine, faster)
	}
	a.Return(reserved)
	a.Return(addr("10.66.10.9"))
	if free, _ := a.HasFree(); !free {
		t.Error("an address that was given back is not free")
	}
}

func TestHeldBy(t *testing.T) {
	a, _ := testAllocator(t, "10.66.10.0/29")
	web, kept := Holder{"team", "web"}, Holder{"team", ""}
	a.Observe(addr("10.66.10.5"), web)
	a.Observe(addr("10.66.10.3"), web)
	a.Observe(addr("10.99.0.1"), kept)
	if got := fmt.Sprint(a.HeldBy(web), a.HeldBy(kept)); got != "[10.66.10.3 10.66.10.5] [10.99.0.1]" {
		t.Error(got)
	}
	a.Observe(addr("10.66.10.5"), kept)
	a.Forget(addr("10.99.0.1"))
	if got := fmt.Sprint(a.HeldBy(web), a.HeldBy(kept)); got != "[10.66.10.3] [10.66.10.5]" {
		t.Error(got)
	}
	if len(a.held) != 2 {
		t.Errorf("remembers %d holders", len(a.held))
	}
}

func TestUsage(t *testing.T) {
	a, clock := testAllocator(t, "10.66.10.0/24", "10.66.20.0/31", "fd00::/64")
	a.Observe(addr("10.66.10.5"), Holder{"team", "web"})
	a.Observe(addr("10.66.10.6"), Holder{"team", ""})
	a.Observe(addr("10.66.10.7"), Holder{"team", ""})
	a.Observe(addr("10.66.10.7"), Holder{"team", "again"})
	a.Observe(addr("10.66.10.255"), Holder{"team", "broadcast"})
	a.Observe(addr("10.99.0.1"), Holder{"team", "outside"})
	a.Promise(addr("fd00::1"), Holder{"team", "six"})
	a.Observe(addr("10.66.20.0"), Holder{"team", "gone"})
	a.Forget(addr("10.66.20.0"))
	a.Forget(addr("10.66.20.0"))
	want := []Usage{
		{Range: netip.MustParsePrefix("10.66.10.0/24"), Size: 254, Held: 2, Released: 1},
		{Range: netip.MustParsePrefix("10.66.20.0/31"), Size: 2},
		{Range: netip.MustParsePrefix("fd00::/64"), Size: 18446744073709551614, Held: 1},
	}
	compare := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff(want, a.Usage(), compare); diff != "" {
		t.Error(diff)
	}
	clock.SetTime(start.Add(time.Hour))
	if got := a.Usage()[2].Held; got != 0 {
		t.Errorf("an old promise counts: %d", got)
	}
}

// The allocator against the simplest thing that can be right: a map. Whatever comes in
// and in whatever order, both agree on what is taken, and what is reserved was free.
func TestAllocatorAgreesWithAMap(t *testing.T) {
	for seed := range int64(60) {
		random := rand.New(rand.NewSource(seed))
		a, clock := testAllocator(t, "10.66.10.0/28", "fd00::/125")
		model := newModel(a.Pool())
		for step := range 400 {
			model.step(t, random, a, clock)
			if t.Failed() {
				t.Fatalf("seed %d, step %d", seed, step)
			}
		}
	}
}

// model is what is taken, by whom, and until when if that is only promised.
type model struct {
	usable []netip.Addr
	taken  map[netip.Addr]entry
}

func newModel(pool Pool) *model {
	m := &model{taken: map[netip.Addr]entry{}}
	for _, r := range pool.ranges {
		for address := r.first; !r.last.Less(address); address = address.Next() {
			m.usable = append(m.usable, address)
		}
	}
	return m
}

func (m *model) step(t *testing.T, random *rand.Rand, a *Allocator, clock *clocktesting.FakePassiveClock) {
	t.Helper()
	m.expire(clock.Now())
	address := m.usable[random.Intn(len(m.usable))]
	holder := Holder{"team", []string{"", "web", "db", "mail"}[random.Intn(4)]}
	have, known := m.taken[address]
	switch random.Intn(8) {
	case 0:
		a.Observe(address, holder)
		m.taken[address] = entry{holder: holder}
	case 1:
		a.Forget(address)
		delete(m.taken, address)
	case 2:
		if a.Promise(address, holder); !known || !have.until.IsZero() {
			m.taken[address] = entry{holder: holder, until: clock.Now().Add(PromiseTime)}
		}
	case 3:
		if a.Return(address); known && !have.until.IsZero() {
			delete(m.taken, address)
		}
	case 4:
		clock.SetTime(clock.Now().Add(time.Duration(random.Intn(20)) * time.Second))
		m.expire(clock.Now())
	default:
		got, ok := a.Reserve(holder)
		if _, taken := m.taken[got]; ok && (taken || a.Pool().Check(got) != nil) || ok == (len(m.taken) == len(m.usable)) {
			t.Errorf("reserved %s, %v; taken %v", got, ok, m.taken)
		}
		if ok {
			m.taken[got] = entry{holder: holder, until: clock.Now().Add(PromiseTime)}
		}
	}
	m.compare(t, a)
}

func (m *model) expire(now time.Time) {
	for address, e := range m.taken {
		if !e.until.IsZero() && !now.Before(e.until) {
			delete(m.taken, address)
		}
	}
}

func (m *model) compare(t *testing.T, a *Allocator) {
	t.Helper()
	if free, _ := a.HasFree(); free != (len(m.taken) < len(m.usable)) {
		t.Errorf("has a free one: %v; %d of %d are taken", free, len(m.taken), len(m.usable))
	}
	for _, name := range []string{"", "web", "db", "mail"} {
		var want []netip.Addr
		for address, e := range m.taken {
			if e.holder.Name == name {
				want = append(want, address)
			}
		}
		slices.SortFunc(want, netip.Addr.Compare)
		if got := a.HeldBy(Holder{"team", name}); !slices.Equal(got, want) {
			t.Errorf("%q holds %s, want %s", name, got, want)
		}
	}
	var used int
	for _, usage := range a.Usage() {
		used += usage.Held + usage.Released
	}
	if used != len(m.taken) {
		t.Errorf("counts %d, want %d", used, len(m.taken))
	}
}

// Several workers that ask at once get an address each, all there are, and none twice.
func TestReserveFromManyPlaces(t *testing.T) {
	a, _ := testAllocator(t, "10.66.10.0/24")
	var workers sync.WaitGroup
	got := make([][]netip.Addr, 8)
	for i := range got {
		workers.Go(func() {
			for address, ok := a.Reserve(Holder{"team", fmt.Sprint(i)}); ok; address, ok = a.Reserve(Holder{"team", fmt.Sprint(i)}) {
				got[i] = append(got[i], address)
				a.Observe(address, Holder{"team", fmt.Sprint(i)})
			}
		})
	}
	workers.Wait()
	all := slices.Concat(got...)
	slices.SortFunc(all, netip.Addr.Compare)
	if len(all) != 254 || len(slices.Compact(all)) != 254 {
		t.Errorf("got %d addresses", len(all))
	}
}

// An address costs the same, whether a hundred or a hundred thousand are taken: what
// is passed over is passed over once.
func TestReserveDoesNotSearch(t *testing.T) {
	a, _ := testAllocator(t, "10.0.0.0/8")
	const taken = 100_000
	address := addr("10.0.0.1")
	for range taken {
		a.Observe(address, Holder{"team", "x"})
		address = address.Next()
	}
	first, _ := a.Reserve(Holder{"team", "y"})
	if first != address {
		t.Fatalf("got %s, want %s", first, address)
	}
	var looks int
	for range 100 {
		got, _ := a.spaces[0].first(func(candidate netip.Addr) bool {
			looks++
			return a.isTaken(candidate)
		})
		a.Observe(got, Holder{"team", "z"})
	}
	if looks > 300 {
		t.Errorf("%d looks for 100 addresses", looks)
	}
}

func BenchmarkReserve(b *testing.B) {
	for _, taken := range []int{100, 10_000, 1_000_000} {
		b.Run(fmt.Sprint(taken), func(b *testing.B) {
			pool, err := NewPool([]string{"10.0.0.0/8"})
			if err != nil {
				b.Fatal(err)
			}
			a := NewAllocator(pool, clocktesting.NewFakePassiveClock(start))
			address := addr("10.0.0.1")
			for range taken {
				a.Observe(address, Holder{"team", fmt.Sprint(address)})
				address = address.Next()
			}
			b.ResetTimer()
			for range b.N {
				got, _ := a.Reserve(Holder{"team", "web"})
				a.Observe(got, Holder{"team", "web"})
				a.Forget(got)
			}
		})
	}
}
