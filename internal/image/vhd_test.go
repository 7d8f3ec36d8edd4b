// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"testing"
)

func put16(at int, value uint16) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint16(b[at:], value) }
}

// sealVHD corrects the checksums of a dynamic VHD's beginning and of its end.
func sealVHD(b []byte) {
	seal := func(b []byte, at int) {
		clear(b[at : at+4])
		sum := uint32(0)
		for _, c := range b {
			sum += uint32(c)
		}
		put32(at, ^sum)(b)
	}
	if bytes.HasPrefix(b, []byte("conectix")) {
		seal(b[:512], 64)
		seal(b[512:1536], 36)
	}
	seal(b[len(b)-512:], 64)
}

func TestInspectVHDDynamicRefuses(t *testing.T) {
	for _, tc := range []struct {
		title   string
		edit    func([]byte)
		kind    Kind
		message string
	}{
		{"version 2", put32(12, 2<<16), NotSupported, "version 0x20000"},
		{"differencing", put32(60, 4), Refused, "differencing"},
		{"fixed at the beginning", put32(60, 2), Corrupt, "begins like a dynamic one"},
		{"no type", put32(60, 0), NotSupported, "type 0"},
		{"reserved type", put32(60, 5), NotSupported, "type 5"},
		{"empty disk", put64(48, 0), Corrupt, "virtual size of 0"},
		{"disk too large", put64(48, 2040<<30+512), Refused, "at most"},
		{"disk of all ones", put64(48, 1<<64-1), Refused, "at most"},
		{"disk of no whole sectors", put64(48, 1000), Corrupt, "no whole sectors"},
		{"disk larger than its blocks", put64(48, 1<<30), Corrupt, "needs more"},
		{"header in the footer", put64(16, 0), Corrupt, "in the copy of the footer"},
		{"header elsewhere", put64(16, 1024), Corrupt, "no dynamic header"},
		{"header behind the end", put64(16, 1<<40), Corrupt, "truncated"},
		{"header of all ones", put64(16, 1<<64-1), Corrupt, "far outside"},
		{"header's version", put32(512+24, 2<<16), NotSupported, "header version 0x20000"},
		{"parent", put32(512+40, 1), Refused, "names a parent"},
		{"parent's place", put32(512+576, 0x57326b75), Refused, "names a parent"},
		{"no blocks", put32(512+32, 0), Corrupt, "blocks of 0"},
		{"blocks of an odd size", put32(512+32, 3<<20), Corrupt, "blocks of 3145728"},
		{"tiny blocks", put32(512+32, 256), Corrupt, "blocks of 256"},
		{"giant blocks", put32(512+32, 1<<31), Corrupt, "blocks of 2147483648"},
		{"no table", put32(512+28, 0), Corrupt, "0 entries"},
		{"giant table", put32(512+28, 8<<20+1), Corrupt, "too many"},
		{"table of all ones", put32(512+28, 1<<32-1), Corrupt, "too many"},
		{"table in the header", put64(512+16, 1024), Corrupt, "behind the dynamic header"},
		{"table between sectors", put64(512+16, 1537), Corrupt, "behind the dynamic header"},
		{"table behind the end", put64(512+16, 1<<40), Corrupt, "truncated"},
		{"table beyond arithmetic", put64(512+16, 1<<64-512), Corrupt, "far outside"},
		{"block behind the end", put32(1536, 1<<20), Corrupt, "truncated"},
		{"block at the largest sector", put32(1536, 1<<32-2), Corrupt, "truncated"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := inspectAt(changed(golden(t, "dynamic-exact.vpc"), tc.edit, sealVHD))
			wantError(t, info, err, tc.kind, tc.message)
		})
	}
}

func TestInspectVHDChecksums(t *testing.T) {
	for title, at := range map[string]int{"footer": 48, "dynamic header": 512 + 100} {
		content := golden(t, "dynamic-exact.vpc")
		content[at]++
		info, err := inspectAt(content)
		wantError(t, info, err, Corrupt, "checksum")
		if t.Failed() {
			t.Fatal(title)
		}
	}
}

func TestInspectVHDAcceptsVariants(t *testing.T) {
	for title, tc := range map[string]struct {
		edit func([]byte)
		size int64
	}{
		"block that is not there":       {put32(1536, 1<<32-1), 1049088},
		"geometry says something else":  {put16(56, 7), 1049088},
		"another creator":               {func(b []byte) { copy(b[28:], "vbox") }, 1049088},
		"saved state":                   {func(b []byte) { b[84] = 1 }, 1049088},
		"smaller disk":                  {put64(48, 512), 512},
		"table with entries to spare":   {put32(512+28, 64), 1049088},
		"original size is another":      {put64(40, 77), 1049088},
		"entry of a block behind it":    {func(b []byte) { put32(512+28, 2)(b); put32(1540, 1<<30)(b) }, 1049088},
		"header has bits of its own":    {put32(512+60, 1), 1049088},
		"largest block the file can be": {func(b []byte) { put64(48, 2<<20)(b); put32(512+28, 1)(b) }, 2 << 20},
	} {
		info, err := inspectAt(changed(golden(t, "dynamic-exact.vpc"), tc.edit, sealVHD))
		if want := (Info{Format: FormatVPC, VirtualSize: tc.size}); err != nil || info != want {
			t.Errorf("%s: %+v, %v", title, info, err)
		}
	}
}

func TestInspectVHDFixedRefuses(t *testing.T) {
	const end = 1049088
	for _, tc := range []struct {
		title   string
		edit    func([]byte)
		kind    Kind
		message string
	}{
		{"dynamic", put32(end+60, 3), Corrupt, "does not begin like one"},
		{"differencing", put32(end+60, 4), Refused, "differencing"},
		{"disk larger than the file", put64(end+48, end+512), Corrupt, "truncated"},
		{"empty disk", put64(end+48, 0), Corrupt, "virtual size of 0"},
		{"version 2", put32(end+12, 2<<16), NotSupported, "version"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := inspectAt(changed(golden(t, "fixed-exact.vpc"), tc.edit, sealVHD))
			wantError(t, info, err, tc.kind, tc.message)
		})
	}
	info, err := inspectAt(changed(golden(t, "fixed-exact.vpc"), put64(end+48, 512)))
	wantError(t, info, err, Corrupt, "checksum")
}

// The dynamic header is usually the second structure, but need not be.
func TestInspectVHDHeaderOutOfSight(t *testing.T) {
	content := golden(t, "dynamic-exact.vpc")
	content = append(content[:len(content)-512], make([]byte, 4<<20)...)
	place := len(content) - 8192
	copy(content[place:], content[512:1536])
	put64(16, uint64(place))(content)
	put64(512+16, uint64(place+1024))(content)
	copy(content[place:], content[512:1536])
	sealVHD(content)
	copy(content[place:], content[512:1536])
	copy(content[place+1024:], content[1536:1540])
	copy(content[len(content)-512:], content[:512])
	want := Info{Format: FormatVPC, VirtualSize: 1049088}
	if info, err := inspectAt(content); err != nil || info != want {
		t.Errorf("whole: %+v, %v", info, err)
	}
	_, err := Inspect(head(content), int64(len(content)))
	wantError(t, Info{}, err, Refused, "too far")
}
