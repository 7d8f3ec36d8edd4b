// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"testing"
)

// sealVHDX corrects the checksums of the structures that have one.
func sealVHDX(content []byte) {
	seal := func(b []byte) {
		clear(b[4:8])
		binary.LittleEndian.PutUint32(b[4:], crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)))
	}
	seal(content[64<<10:][:4<<10])
	seal(content[128<<10:][:4<<10])
	seal(content[192<<10:][:64<<10])
	seal(content[256<<10:][:64<<10])
}

// vhdxEntry finds a table's entry by its GUID.
func vhdxEntry(table []byte, id string) []byte {
	before, _, _ := bytes.Cut(table, []byte(id))
	return table[len(before):][:32]
}

// moveVHDXRegion copies a region's first 128 KiB to another place and says so in
// both tables.
func moveVHDXRegion(content []byte, id string, to uint64) {
	le := binary.LittleEndian
	from := le.Uint64(vhdxEntry(content[192<<10:], id)[16:])
	copy(content[to:], content[from:][:128<<10])
	le.PutUint64(vhdxEntry(content[192<<10:], id)[16:], to)
	le.PutUint64(vhdxEntry(content[256<<10:], id)[16:], to)
	sealVHDX(content)
}

func TestInspectVHDXInAStream(t *testing.T) {
	content := golden(t, "dynamic.vhdx")
	moveVHDXRegion(content, vhdxRegionMetadata, 5<<20)
	want := Info{Format: FormatVHDX, VirtualSize: 1049088}
	if info, err := inspectAt(content); err != nil || info != want {
		t.Errorf("whole: %+v, %v", info, err)
	}
	_, err := Inspect(head(content), int64(len(content)))
	wantError(t, Info{}, err, Refused, "too far")
}
