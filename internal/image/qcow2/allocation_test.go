// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bytes"
	"io"
	"strings"
	"testing"
)

func TestClusterSizeFor(t *testing.T) {
	for _, tc := range []struct{ disk, want int64 }{
		{1, 65536},
		{50 << 30, 65536},
		{1 << 40, 65536},
		{2 << 40, 131072},
		{64 << 40, 2 << 20},
	} {
		got := ClusterSizeFor(tc.disk)
		if got != tc.want {
			t.Errorf("%d bytes: clusters of %d, want %d", tc.disk, got, tc.want)
		}
		if _, err := NewAllocation(tc.disk, got); err != nil {
			t.Errorf("%d bytes: %v", tc.disk, err)
		}
	}
}

func TestNewAllocationBounds(t *testing.T) {
	for _, tc := range []struct {
		disk, cluster int64
		message       string
	}{
		{1 << 30, 0, "power of two"},
		{1 << 30, 256, "power of two"},
		{1 << 30, 4 << 20, "power of two"},
		{1 << 30, 65535, "power of two"},
		{1 << 30, -65536, "power of two"},
		{0, 65536, "at least 1"},
		{-1, 65536, "at least 1"},
		{64<<40 + 1, 65536, "at most"},
		{64 << 40, 65536, "larger ones"},
		{1 << 40, 512, "larger ones"},
	} {
		_, err := NewAllocation(tc.disk, tc.cluster)
		if err == nil || !strings.Contains(err.Error(), tc.message) {
			t.Errorf("%d bytes in clusters of %d: %v", tc.disk, tc.cluster, err)
		}
	}
}

func TestMark(t *testing.T) {
	for _, tc := range []struct {
		title          string
		offset, length int64
		want           int64
	}{
		{"nothing", 5000, 0, 0},
		{"less than nothing", 5000, -1, 0},
		{"a byte", 5000, 1, 1},
		{"a cluster", 4096, 4096, 1},
		{"a cluster's end and the next one's beginning", 8191, 2, 2},
		{"all", 0, 1<<20 + 1, 257},
		{"the last byte", 1 << 20, 1, 1},
		{"beyond the end", 1 << 20, 1 << 62, 1},
		{"largest length", 0, 1<<63 - 1, 257},
		{"behind the end", 1<<20 + 1, 10, 0},
		{"before the beginning", -1, 10, 0},
	} {
		a, err := NewAllocation(1<<20+1, 4096)
		if err != nil {
			t.Fatal(err)
		}
		a.Mark(tc.offset, tc.length)
		a.Mark(tc.offset, tc.length)
		if got := a.Bytes() / 4096; got != tc.want {
			t.Errorf("%s: %d clusters, want %d", tc.title, got, tc.want)
		}
	}
}

// zeros is a disk of any size.
type zeros struct{}

func (zeros) ReadAt(p []byte, _ int64) (int, error) {
	clear(p)
	return len(p), nil
}

// The tables of the largest disks have a form of their own: more than one
// cluster of the table of reference counts, of the first level, of blocks.
func TestWritesLargeDisks(t *testing.T) {
	for _, tc := range []struct {
		title                 string
		disk, cluster, marked int64
		size                  int64
	}{
		// 1 header, 1 table of counts, 1 block, 1 L1, 1 L2, 1 of data.
		{"largest, almost empty", 64 << 40, 2 << 20, 1, 6 * 2 << 20},
		// Of 512 bytes: the header, 5 of the table of counts, 262 blocks, 32 of L1, 1024 of L2, 65536 of data.
		{"small clusters", 64 << 20, 512, 32 << 20, (1 + 5 + 262 + 32 + 1024 + 65536) * 512},
	} {
		t.Run(tc.title, func(t *testing.T) {
			a, err := NewAllocation(tc.disk, tc.cluster)
			if err != nil {
				t.Fatal(err)
			}
			a.Mark(tc.disk/2, tc.marked)
			w, err := NewWriter(a)
			if err != nil {
				t.Fatal(err)
			}
			if w.Size() != tc.size || w.VirtualSize() != tc.disk {
				t.Errorf("file of %d bytes, want %d", w.Size(), tc.size)
			}
			file, err := io.ReadAll(io.NewSectionReader(w.File(zeros{}), 0, w.Size()))
			if err != nil {
				t.Fatal(err)
			}
			i, err := Open(bytes.NewReader(file), w.Size())
			if err != nil {
				t.Fatal(err)
			}
			count := 0
			for e := range i.Extents() {
				count++
				if e.Kind != Data || e.GuestOffset != tc.disk/2 || e.Length != a.Bytes() {
					t.Errorf("extent %+v", e)
				}
			}
			if count != 1 {
				t.Errorf("%d extents", count)
			}
			checkRefcounts(t, file, tc.cluster)
		})
	}
}

func TestWriterRefusesTablesThatQEMUWouldRefuse(t *testing.T) {
	a, err := NewAllocation(256<<30, 512)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := NewWriter(a); err == nil || !strings.Contains(err.Error(), "larger ones") {
		t.Errorf("got %v", err)
	}
}
