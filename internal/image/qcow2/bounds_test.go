// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"encoding/binary"
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// madeUp is an image that nobody could store: every word of its tables is
// computed. The first level begins at the second cluster, the table of reference
// counts lies behind everything else.
type madeUp struct {
	clusterBits   int
	clusters      int64
	tables        int64
	entry         func(cluster int64) uint64
	size, l1Bytes int64
}

func newMadeUp(clusterBits int, clusters int64, entry func(cluster int64) uint64) *madeUp {
	cluster := int64(1) << clusterBits
	m := &madeUp{clusterBits: clusterBits, clusters: clusters, entry: entry, tables: ceil(clusters, cluster/8)}
	m.l1Bytes = ceil(m.tables*8, cluster) * cluster
	m.size = m.dataOffset() + clusters*cluster + cluster
	return m
}

func (m *madeUp) tablesOffset() int64 { return 1<<m.clusterBits + m.l1Bytes }
func (m *madeUp) dataOffset() int64   { return m.tablesOffset() + m.tables<<m.clusterBits }

func (m *madeUp) ReadAt(p []byte, offset int64) (int, error) {
	be := binary.BigEndian
	for n := range int64(len(p) / 8) {
		at := offset + n*8
		word := uint64(0)
		switch {
		case at < 1<<m.clusterBits:
		case at < m.tablesOffset():
			if index := (at - 1<<m.clusterBits) / 8; index < m.tables {
				word = uint64(m.tablesOffset() + index<<m.clusterBits)
			}
		case at < m.dataOffset():
			if cluster := (at - m.tablesOffset()) / 8; cluster < m.clusters {
				word = m.entry(cluster)
			}
		}
		be.PutUint64(p[n*8:], word)
	}
	if offset == 0 {
		m.header(p)
	}
	return len(p), nil
}

func (m *madeUp) header(p []byte) {
	be := binary.BigEndian
	copy(p, "QFI\xfb")
	be.PutUint32(p[4:], 3)
	be.PutUint32(p[20:], uint32(m.clusterBits))
	be.PutUint64(p[24:], uint64(m.clusters<<m.clusterBits))
	be.PutUint32(p[36:], uint32(m.tables))
	be.PutUint64(p[40:], 1<<m.clusterBits)
	be.PutUint64(p[48:], uint64(m.size-1<<m.clusterBits))
	be.PutUint32(p[56:], 1)
	be.PutUint32(p[96:], 4)
	be.PutUint32(p[100:], 104)
}

// backwards puts the clusters into the file in the opposite order.
func backwards(m *madeUp) func(int64) uint64 {
	return func(cluster int64) uint64 { return uint64(m.dataOffset() + (m.clusters-1-cluster)<<m.clusterBits) }
}

func TestMemoryDependsOnThePieces(t *testing.T) {
	// 50 GiB in clusters of 64 KiB without two neighbours: the worst there is.
	m := newMadeUp(16, 50<<30>>16, nil)
	m.entry = backwards(m)
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	i, err := Open(m, m.size)
	if err != nil {
		t.Fatal(err)
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	if used := int64(after.HeapAlloc) - int64(before.HeapAlloc); used > 32<<20 {
		t.Errorf("%d bytes for %d clusters", used, m.clusters)
	}
	next, count := m.dataOffset(), int64(0)
	for e := range i.Extents() {
		if e.HostOffset != next || e.Length != 65536 || e.GuestOffset != (m.clusters-1-count)*65536 {
			t.Fatalf("%+v, expected at byte %d", e, next)
		}
		next += e.HostLength
		count++
	}
	if count != m.clusters {
		t.Errorf("%d extents, want %d", count, m.clusters)
	}
}

func TestLongExtents(t *testing.T) {
	// More clusters than one run can count.
	m := newMadeUp(16, 1<<27+5, func(int64) uint64 { return 1 })
	i, err := Open(m, m.size)
	if err != nil {
		t.Fatal(err)
	}
	var got []Extent
	for e := range i.Extents() {
		got = append(got, e)
	}
	want := []Extent{
		{Kind: Zero, GuestOffset: 0, Length: (1<<27 - 1) << 16},
		{Kind: Zero, GuestOffset: (1<<27 - 1) << 16, Length: 6 << 16},
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("got %+v", got)
	}
}

func TestLeavesWhatIsTooMuchToQEMU(t *testing.T) {
	scattered := newMadeUp(12, 4<<20+1, nil)
	scattered.entry = backwards(scattered)
	for message, m := range map[string]*madeUp{
		"pieces": scattered,
		"tables": newMadeUp(9, 64*(1<<18+1), func(int64) uint64 { return 0 }),
	} {
		if _, err := Open(m, m.size); !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), message) {
			t.Errorf("too many %s: %v", message, err)
		}
	}
}

// Tables that are the same one would make a small file a large disk.
func TestRefusesOneTableForTheWholeDisk(t *testing.T) {
	m := newMadeUp(16, 1<<16, func(int64) uint64 { return 1 })
	_, err := Open(sameTable{m}, m.size)
	wantCorrupt(t, err, "same place")
}

type sameTable struct{ *madeUp }

func (s sameTable) ReadAt(p []byte, offset int64) (int, error) {
	n, err := s.madeUp.ReadAt(p, offset)
	if offset == 1<<s.clusterBits {
		for at := 8; at < n; at += 8 {
			copy(p[at:], p[:8])
		}
	}
	return n, err
}

// counter counts reads and how many of them are under way at the same time.
type counter struct {
	*madeUp
	reads, now, most atomic.Int64
}

func (c *counter) ReadAt(p []byte, offset int64) (int, error) {
	c.reads.Add(1)
	now := c.now.Add(1)
	defer c.now.Add(-1)
	for most := c.most.Load(); now > most && !c.most.CompareAndSwap(most, now); most = c.most.Load() {
		continue
	}
	// As long as a distant server needs to answer.
	time.Sleep(5 * time.Millisecond)
	return c.madeUp.ReadAt(p, offset)
}

// Over a network the time is in the round trips.
func TestTablesAreReadSeveralAtATime(t *testing.T) {
	c := &counter{madeUp: newMadeUp(16, 64*8192, func(int64) uint64 { return 1 })}
	if _, err := Open(c, c.size); err != nil {
		t.Fatal(err)
	}
	// The header, the first level and 64 tables.
	if c.reads.Load() != 66 || c.most.Load() < 8 || c.most.Load() > 16 {
		t.Errorf("%d reads, at most %d at the same time", c.reads.Load(), c.most.Load())
	}
}
