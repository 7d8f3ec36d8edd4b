// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"slices"
	"testing"
)

func TestViewBytes(t *testing.T) {
	content := []byte("0123456789abcdef")
	for _, tc := range []struct {
		title          string
		view           *view
		offset, length uint64
		want           string
		err            string
	}{
		{"beginning", &view{head: content[:8], size: 16}, 0, 8, "01234567", ""},
		{"nothing", &view{head: content[:8], size: 16}, 8, 0, "", ""},
		{"across the end of what is seen", &view{head: content[:8], size: 16}, 7, 2, "", "cannot be seen"},
		{"behind what is seen", &view{head: content[:8], size: 16}, 10, 2, "", "cannot be seen"},
		{"behind the file", &view{head: content[:8], size: 16}, 15, 2, "", "truncated"},
		{"largest offset", &view{head: content, size: 16}, 1<<64 - 1, 2, "", "far outside"},
		{"largest length", &view{head: content, size: 16}, 0, 1<<64 - 1, "", "far outside"},
		{"largest of an unknown size", &view{head: content, size: -1}, 1<<64 - 1, 1<<64 - 1, "", "far outside"},
		{"whole end", &view{head: content[:8], tail: content[12:], size: 16}, 12, 4, "cdef", ""},
		{"part of the end", &view{head: content[:8], tail: content[12:], size: 16}, 13, 2, "de", ""},
		{"across the beginning of the end", &view{head: content[:8], tail: content[12:], size: 16}, 11, 2, "", "cannot be seen"},
		{"end of everything", &view{tail: content, size: 16}, 0, 16, "0123456789abcdef", ""},
		{"short stream", &view{head: content, size: -1}, 15, 2, "", "truncated"},
		{"by reading", &view{head: content[:8], all: bytes.NewReader(content), size: 16}, 7, 3, "789", ""},
		{"by reading too much", &view{head: content[:8], all: bytes.NewReader(content), size: 1 << 40}, 8, 1 << 30, "", "too many"},
		{"by reading what is not there", &view{head: content[:8], all: bytes.NewReader(content), size: 32}, 8, 16, "", "unexpected EOF"},
	} {
		got, err := tc.view.bytes("part", tc.offset, tc.length)
		switch {
		case tc.err == "" && (err != nil || string(got) != tc.want):
			t.Errorf("%s: %q, %v", tc.title, got, err)
		case tc.err != "" && (err == nil || !bytes.Contains([]byte(err.Error()), []byte(tc.err))):
			t.Errorf("%s: %q, %v, want an error that mentions %q", tc.title, got, err, tc.err)
		}
	}
	long := &view{head: make([]byte, HeadSize), size: -1}
	if _, err := long.bytes("part", HeadSize, 1); !errors.Is(err, errUnseen) {
		t.Errorf("a stream that goes on: %v", err)
	}
}

func TestViewWalk(t *testing.T) {
	// A table that is no whole number of chunks, behind what is seen at once.
	const entries = walkChunk/8*2 + 3
	table := make([]byte, entries*8)
	for n := range uint64(entries) {
		binary.LittleEndian.PutUint64(table[n*8:], n)
	}
	content := append(make([]byte, 512), table...)
	source := &recorder{ReaderAt: bytes.NewReader(content)}
	v := &view{head: content[:512], all: source, size: int64(len(content))}
	next := uint64(0)
	err := v.walk("table", 512, entries, 8, func(n uint64, entry []byte) error {
		if n != next || binary.LittleEndian.Uint64(entry) != n {
			t.Fatalf("entry %d is %d, expected %d", n, binary.LittleEndian.Uint64(entry), next)
		}
		next++
		return nil
	})
	if err != nil || next != entries {
		t.Errorf("%d entries, %v", next, err)
	}
	if want := []int64{512, 512 + walkChunk, 512 + 2*walkChunk}; !slices.Equal(source.offsets, want) {
		t.Errorf("read at %v, want %v", source.offsets, want)
	}
	stop := errors.New("stop")
	if err := v.walk("table", 512, entries, 8, func(uint64, []byte) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("stopped by %v", err)
	}
	v.all = nil
	never := func(uint64, []byte) error { t.Fatal("an entry that cannot be seen"); return nil }
	if err := v.walk("table", 512, entries, 8, never); err != nil {
		t.Errorf("out of sight: %v", err)
	}
	if err := v.walk("table", 1024, entries, 8, never); err == nil {
		t.Error("a table beyond the end is no error")
	}
}

// recorder remembers where a file is read.
type recorder struct {
	io.ReaderAt
	offsets []int64
}

func (r *recorder) ReadAt(p []byte, offset int64) (int, error) {
	r.offsets = append(r.offsets, offset)
	return r.ReaderAt.ReadAt(p, offset)
}

// Each read may be a request to a distant server.
func TestInspectAtReadsLittle(t *testing.T) {
	for _, tc := range goldenImages {
		content := golden(t, tc.name)
		source := &recorder{ReaderAt: bytes.NewReader(content)}
		if _, err := InspectAt(source, int64(len(content))); err != nil {
			t.Fatal(err)
		}
		if len(source.offsets) != 1 {
			t.Errorf("%s is read at %v", tc.name, source.offsets)
		}
	}
	// A raw disk is looked at from both ends.
	source := &recorder{ReaderAt: bytes.NewReader(make([]byte, HeadSize+1024))}
	if _, err := InspectAt(source, HeadSize+1024); err != nil || !slices.Equal(source.offsets, []int64{0, HeadSize + 512}) {
		t.Errorf("a raw disk is read at %v, %v", source.offsets, err)
	}
}

func TestInspectVMDKReadsNeighbouringTablesAtOnce(t *testing.T) {
	// Of 4 GiB with 128 tables, in a row behind what is seen at once.
	const tables, capacity = 128, 4 << 30 / 512
	content := make([]byte, HeadSize+tables*2048)
	copy(content, golden(t, "monolithicSparse.vmdk")[:21*512])
	changed(content, le32(8, 1), le64(12, capacity))
	for n := range uint32(tables) {
		le32(26*512+int(n)*4, HeadSize/512+n*4)(content)
	}
	want := Info{Format: FormatVMDK, VirtualSize: 4 << 30}
	source := &recorder{ReaderAt: bytes.NewReader(content)}
	if info, err := InspectAt(source, int64(len(content))); err != nil || info != want {
		t.Errorf("got %+v, %v", info, err)
	}
	if !slices.Equal(source.offsets, []int64{0, HeadSize}) {
		t.Errorf("read at %v", source.offsets)
	}
	// The first half in the opposite order needs a read for each table.
	for n := range uint32(tables / 2) {
		le32(26*512+int(n)*4, HeadSize/512+(tables/2-1-n)*4)(content)
	}
	source.offsets = nil
	if _, err := InspectAt(source, int64(len(content))); err != nil || len(source.offsets) != 1+tables/2+1 {
		t.Errorf("read at %v, %v", source.offsets, err)
	}
	// A grain of the last table, where the disk ends, has to be in the file.
	le32(HeadSize+tables*2048-4, uint32(len(content)/512-127))(content)
	info, err := inspectAt(content)
	wantError(t, info, err, Corrupt, "grain")
	le32(HeadSize+tables*2048-4, uint32(len(content)/512-128))(content)
	if info, err := inspectAt(content); err != nil || info != want {
		t.Errorf("the last grain fits: %+v, %v", info, err)
	}
}

func TestParseQCOW2(t *testing.T) {
	content := changed(qcow2File(), put64(72, 8), func(b []byte) { b[104] = 1 })
	want := QCOW2{
		Version: 3, VirtualSize: 1 << 30, ClusterBits: 16,
		L1Offset: 131072, L1Entries: 2,
		RefcountTableOffset: 65536, RefcountTableLength: 65536,
		CompressedByZstandard: true,
	}
	if got, err := ParseQCOW2(content, int64(len(content))); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	want.CompressedByZstandard, want.ExtendedL2, want.L1Entries = false, true, 4
	content = changed(qcow2File(), put64(72, 16), put32(36, 4))
	if got, err := ParseQCOW2(content, UnknownSize); err != nil || got != want {
		t.Errorf("got %+v, %v", got, err)
	}
	_, err := ParseQCOW2([]byte("something else"), 14)
	wantError(t, Info{}, err, NotSupported, "not a qcow2")
	_, err = ParseQCOW2(changed(qcow2File(), put64(8, 1)), UnknownSize)
	wantError(t, Info{}, err, Refused, "backing file")
}
