// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"testing"

	"github.com/deckhouse/virtualization/internal/image"
)

// tinySeeds are images small enough to be changed byte by byte.
func tinySeeds(f *testing.F) [][]byte {
	disk := make([]byte, 6144)
	copy(disk[1024:], "something")
	disk[6143] = 1
	seeds := [][]byte{golden(f, "tiny-deflate"), golden(f, "tiny-zstd"), write(f, disk, 512), write(f, disk, 4096)}
	zeros := write(f, disk, 512)
	put64(l2(zeros)+8, 1)(zeros)
	return append(seeds, zeros)
}

func FuzzOpen(f *testing.F) {
	for _, seed := range tinySeeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		i, err := open(file)
		if err != nil {
			var typed *image.Error
			if !errors.As(err, &typed) && !errors.Is(err, ErrUnsupported) {
				t.Fatalf("untyped error %#v", err)
			}
			return
		}
		checkExtents(t, i, int64(len(file)))
		if i.VirtualSize() <= 1<<20 {
			compareWithTables(t, i, file)
		}
	})
}

// checkExtents verifies what holds for the extents of every image.
func checkExtents(t *testing.T, i *Image, size int64) {
	t.Helper()
	var last Extent
	covered := map[int64]bool{}
	for e := range i.Extents() {
		switch {
		case e.Length <= 0 || e.GuestOffset%i.ClusterSize() != 0 || e.GuestOffset+e.Length > i.VirtualSize():
			t.Fatalf("%+v is not on the disk", e)
		case e.HostOffset < 0 || e.HostLength < 0 || e.HostOffset+e.HostLength > size:
			t.Fatalf("%+v is not in the file", e)
		case e.Kind != Zero && (e.HostOffset < i.ClusterSize() || e.HostLength == 0):
			t.Fatalf("%+v is in the header or nowhere", e)
		case e.Kind == Zero && (e.HostOffset != 0 || e.HostLength != 0):
			t.Fatalf("%+v has a place", e)
		case e.Kind == Data && (e.HostLength != e.Length || e.HostOffset < last.HostOffset+last.HostLength):
			t.Fatalf("%+v behind %+v", e, last)
		case e.Kind == Compressed && (e.Length > i.ClusterSize() || e.HostOffset < last.HostOffset+last.HostLength-511):
			t.Fatalf("%+v behind %+v", e, last)
		case e.HostOffset < last.HostOffset || e.HostOffset == last.HostOffset && e.Kind != Zero:
			t.Fatalf("%+v behind %+v", e, last)
		}
		// Zeros cost the file nothing, so they may be too many to be counted.
		for at := e.GuestOffset; e.Kind != Zero && at < e.GuestOffset+e.Length; at += i.ClusterSize() {
			if covered[at] {
				t.Fatalf("%+v is on the disk twice", e)
			}
			covered[at] = true
		}
		last = e
	}
}

// compareWithTables reads the disk once more, cluster by cluster, in the way that
// the format's description tells it.
func compareWithTables(t *testing.T, i *Image, file []byte) {
	t.Helper()
	be := binary.BigEndian
	clusterSize := i.ClusterSize()
	entries := clusterSize / 8
	disk := make([]byte, i.VirtualSize())
	for at := int64(0); at < i.VirtualSize(); at += clusterSize {
		cluster := at / clusterSize
		table := int64(be.Uint64(file[l1(file)+cluster/entries*8:]) << 8 >> 17 << 9)
		if table == 0 {
			continue
		}
		to := disk[at:min(at+clusterSize, i.VirtualSize())]
		entry := be.Uint64(file[table+cluster%entries*8:])
		switch {
		case entry&(1<<62) != 0:
			bits := 62 - (i.header.ClusterBits - 8)
			begin := int64(entry & (1<<bits - 1))
			sectors := int64(entry << 2 >> 2 >> bits)
			if i.Decompress(to, file[begin:min(begin/512*512+(sectors+1)*512, int64(len(file)))]) != nil {
				return
			}
		case entry&1 == 0 && entry<<8>>17 != 0:
			copy(to, file[entry<<8>>17<<9:])
		}
	}
	if !bytes.Equal(unpack(t, i, file), disk) {
		t.Fatal("the extents are not the disk that the tables describe")
	}
}

func FuzzDecompress(f *testing.F) {
	images := map[bool]*Image{}
	for _, name := range []string{"tiny-deflate", "tiny-zstd"} {
		file := golden(f, name)
		i, err := open(file)
		if err != nil {
			f.Fatal(err)
		}
		images[i.header.CompressedByZstandard] = i
		for e := range i.Extents() {
			f.Add(file[e.HostOffset:][:e.HostLength], i.header.CompressedByZstandard)
		}
	}
	f.Fuzz(func(t *testing.T, packed []byte, zstandard bool) {
		first, second := make([]byte, 65536), bytes.Repeat([]byte{1}, 65536)
		err := images[zstandard].Decompress(first, packed)
		again := images[zstandard].Decompress(second, packed)
		if (err == nil) != (again == nil) || err == nil && !bytes.Equal(first, second) {
			t.Fatalf("%v, then %v", err, again)
		}
	})
}

// FuzzWriter marks one cluster for each pair of bytes.
func FuzzWriter(f *testing.F) {
	f.Add([]byte{0, 0}, int64(1), uint8(0))
	f.Add([]byte{0, 1, 2, 3, 255, 255}, int64(1<<20+1), uint8(3))
	f.Add([]byte{}, int64(40<<20), uint8(12))
	f.Fuzz(func(t *testing.T, marks []byte, virtualSize int64, clusterBits uint8) {
		clusterSize := int64(512) << (clusterBits % 4)
		a, err := NewAllocation(1+(virtualSize&(1<<25-1)), clusterSize)
		if err != nil {
			t.Fatal(err)
		}
		for ; len(marks) > 1; marks = marks[2:] {
			a.Mark(int64(binary.BigEndian.Uint16(marks))*clusterSize, 1)
		}
		w, err := NewWriter(a)
		if err != nil {
			t.Fatal(err)
		}
		file, err := io.ReadAll(io.NewSectionReader(w.File(ones{}), 0, w.Size()))
		if err != nil {
			t.Fatal(err)
		}
		i, err := open(file)
		if err != nil {
			t.Fatal(err)
		}
		checkExtents(t, i, w.Size())
		checkRefcounts(t, file, clusterSize)
		for at, b := range unpack(t, i, file) {
			if want := a.marked(int64(at)/clusterSize) && int64(at) < a.virtualSize; (b == 1) != want {
				t.Fatalf("byte %d is %d", at, b)
			}
		}
	})
}

// ones is a disk of any size.
type ones struct{}

func (ones) ReadAt(p []byte, _ int64) (int, error) {
	for n := range p {
		p[n] = 1
	}
	return len(p), nil
}
