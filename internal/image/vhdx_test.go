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

// vhdxTables applies a change to both copies of an entry in the region table.
func vhdxTables(id string, change func([]byte)) func([]byte) {
	return func(b []byte) {
		change(vhdxEntry(b[192<<10:][:64<<10], id))
		change(vhdxEntry(b[256<<10:][:64<<10], id))
	}
}

// vhdxBoth applies a change to two copies.
func vhdxBoth(first, second int, change func([]byte)) func([]byte) {
	return func(b []byte) {
		change(b[first:])
		change(b[second:])
	}
}

// vhdxItem applies a change to an entry of the metadata table, vhdxValue to what
// it points to. Both golden images have the metadata at 3 MiB and the block
// table at 2 MiB.
func vhdxItem(id string, change func([]byte)) func([]byte) {
	return func(b []byte) { change(vhdxEntry(b[3<<20:], id)) }
}

func vhdxValue(id string, change func([]byte)) func([]byte) {
	return func(b []byte) {
		change(b[3<<20+int(binary.LittleEndian.Uint32(vhdxEntry(b[3<<20:], id)[16:])):])
	}
}

func vhdxHeaderFields(change func([]byte)) func([]byte) { return vhdxBoth(64<<10, 128<<10, change) }
func vhdxRegionFields(change func([]byte)) func([]byte) {
	return vhdxBoth(192<<10, 256<<10, change)
}

func TestInspectVHDXRefuses(t *testing.T) {
	for _, tc := range []struct {
		title   string
		edit    func([]byte)
		kind    Kind
		message string
	}{
		{"version 2", vhdxHeaderFields(le16(66, 2)), NotSupported, "version 2"},
		{"log in use", vhdxHeaderFields(le32(48, 1)), Refused, "log"},
		{"log in use by the newer header", func(b []byte) { le64(8, 1<<62)(b[128<<10:]); le32(48, 1)(b[128<<10:]) }, Refused, "log"},
		{"no header", vhdxHeaderFields(le32(0, 0)), Corrupt, "no intact header"},
		{"no region table", vhdxRegionFields(le32(0, 0)), Corrupt, "no intact region table"},
		{"giant region table", vhdxRegionFields(le32(8, 2048)), Corrupt, "too many"},
		{"region table of all ones", vhdxRegionFields(le32(8, 1<<32-1)), Corrupt, "too many"},
		{"empty region table", vhdxRegionFields(le32(8, 0)), Corrupt, "lacks"},
		{"metadata only", vhdxTables(vhdxRegionBAT, le64(0, 1)), Corrupt, "lacks"},
		{"unknown region", vhdxTables(vhdxRegionBAT, func(b []byte) { le64(0, 1)(b); le32(28, 1)(b) }), Refused, "unknown region"},
		{"region twice", vhdxTables(vhdxRegionBAT, func(b []byte) { copy(b, vhdxRegionMetadata) }), Corrupt, "twice"},
		{"region in the headers", vhdxTables(vhdxRegionBAT, le64(16, 0)), Corrupt, "no whole MiB"},
		{"region between units", vhdxTables(vhdxRegionBAT, le64(16, 2<<20+512)), Corrupt, "no whole MiB"},
		{"region of no length", vhdxTables(vhdxRegionBAT, le32(24, 0)), Corrupt, "no whole MiB"},
		{"region of an odd length", vhdxTables(vhdxRegionBAT, le32(24, 4096)), Corrupt, "no whole MiB"},
		{"region behind the end", vhdxTables(vhdxRegionBAT, le64(16, 1<<30)), Corrupt, "truncated"},
		{"region beyond the end", vhdxTables(vhdxRegionBAT, le32(24, 1<<30)), Corrupt, "truncated"},
		{"region beyond arithmetic", vhdxTables(vhdxRegionMetadata, le64(16, 1<<64-1<<20)), Corrupt, "far outside"},
		{"regions in one place", vhdxTables(vhdxRegionBAT, le64(16, 3<<20)), Corrupt, "same place"},
		{"regions that overlap", vhdxTables(vhdxRegionBAT, le32(24, 2<<20)), Corrupt, "same place"},
		{"no metadata", at(3<<20, le32(0, 0)), Corrupt, "no metadata table"},
		{"giant metadata", at(3<<20, le16(10, 2048)), Corrupt, "no metadata table"},
		{"empty metadata", at(3<<20, le16(10, 0)), Corrupt, "lacks"},
		{"no size", vhdxItem(vhdxDiskSize, func(b []byte) { le32(0, 0)(b); le32(24, 0)(b) }), Corrupt, "lacks"},
		{"unknown item", vhdxItem(vhdxDiskID, le32(0, 0)), Refused, "unknown metadata"},
		{"user's item", vhdxItem(vhdxDiskSize, le32(24, 5)), Refused, "unknown metadata"},
		{"parent's locator", vhdxItem(vhdxDiskID, func(b []byte) { copy(b, vhdxParentLocator) }), Refused, "names a parent"},
		{"optional parent's locator", vhdxItem(vhdxDiskID, func(b []byte) { copy(b, vhdxParentLocator); le32(24, 0)(b) }), Refused, "names a parent"},
		{"item twice", vhdxItem(vhdxDiskID, func(b []byte) { copy(b, vhdxDiskSize) }), Corrupt, "twice"},
		{"item of another length", vhdxItem(vhdxDiskSize, le32(20, 4)), Corrupt, "an item"},
		{"item in the table", vhdxItem(vhdxDiskSize, le32(16, 0)), Corrupt, "an item"},
		{"item behind the region", vhdxItem(vhdxDiskSize, le32(16, 1<<20-4)), Corrupt, "an item"},
		{"item of all ones", vhdxItem(vhdxDiskSize, le32(16, 1<<32-1)), Corrupt, "an item"},
		{"differencing", vhdxValue(vhdxFileParameters, le32(4, 2)), Refused, "differencing"},
		{"large sectors", vhdxValue(vhdxLogicalSector, le32(0, 4096)), Refused, "sectors of 4096"},
		{"no sectors", vhdxValue(vhdxLogicalSector, le32(0, 0)), Refused, "sectors of 0"},
		{"empty disk", vhdxValue(vhdxDiskSize, le64(0, 0)), Corrupt, "virtual size of 0"},
		{"disk too large", vhdxValue(vhdxDiskSize, le64(0, 64<<40+512)), Refused, "at most"},
		{"disk of all ones", vhdxValue(vhdxDiskSize, le64(0, 1<<64-1)), Refused, "at most"},
		{"disk of no whole sectors", vhdxValue(vhdxDiskSize, le64(0, 1000)), Corrupt, "no whole sectors"},
		{"disk larger than its table", vhdxValue(vhdxDiskSize, le64(0, 64<<40)), Corrupt, "needs more"},
		{"no blocks", vhdxValue(vhdxFileParameters, le32(0, 0)), Corrupt, "blocks of 0"},
		{"tiny blocks", vhdxValue(vhdxFileParameters, le32(0, 512<<10)), Corrupt, "blocks of 524288"},
		{"odd blocks", vhdxValue(vhdxFileParameters, le32(0, 3<<20)), Corrupt, "blocks of 3145728"},
		{"giant blocks", vhdxValue(vhdxFileParameters, le32(0, 512<<20)), Corrupt, "blocks of 536870912"},
		{"block in the headers", at(2<<20, le64(0, 6)), Corrupt, "place of the headers"},
		{"block behind the end", at(2<<20, le64(0, 1<<30|6)), Corrupt, "truncated"},
		{"block of all ones", at(2<<20, le64(0, 1<<64-2)), Corrupt, "far outside"},
		{"block in a parent", at(2<<20, le64(0, 7)), Refused, "in a parent"},
		{"block in a reserved state", at(2<<20, le64(0, 4)), Corrupt, "unknown state 4"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := inspectAt(changed(golden(t, "dynamic.vhdx"), tc.edit, sealVHDX))
			wantError(t, info, err, tc.kind, tc.message)
		})
	}
}

func TestInspectVHDXAcceptsVariants(t *testing.T) {
	for title, tc := range map[string]struct {
		edit func([]byte)
		size int64
	}{
		"older header has a log":     {func(b []byte) { le64(8, 1<<62)(b[128<<10:]); le32(48, 1)(b[64<<10:]); clear(b[128<<10+48:][:16]) }, 1049088},
		"optional unknown region":    {vhdxRegionFields(func(b []byte) { le32(8, 3)(b) }), 1049088},
		"optional unknown item":      {vhdxItem(vhdxDiskID, func(b []byte) { le32(0, 0)(b); le32(24, 0)(b) }), 1049088},
		"physical sectors are large": {vhdxValue(vhdxPhysicalSector, le32(0, 4096)), 1049088},
		"blocks stay allocated":      {vhdxValue(vhdxFileParameters, le32(4, 1)), 1049088},
		"zeros":                      {at(2<<20, le64(0, 2)), 1049088},
		"unmapped":                   {at(2<<20, le64(0, 3)), 1049088},
		"bitmap's entry":             {func(b []byte) { vhdxValue(vhdxDiskSize, le64(0, 9<<30))(b); bitmapEntry(b) }, 9 << 30},
	} {
		info, err := inspectAt(changed(golden(t, "dynamic.vhdx"), tc.edit, sealVHDX))
		if want := (Info{Format: FormatVHDX, VirtualSize: tc.size}); err != nil || info != want {
			t.Errorf("%s: %+v, %v", title, info, err)
		}
	}
}

// bitmapEntry fills the first entry that is not of a block with what a block
// would be refused for.
func bitmapEntry(b []byte) {
	block := binary.LittleEndian.Uint32(b[3<<20+int(binary.LittleEndian.Uint32(vhdxEntry(b[3<<20:], vhdxFileParameters)[16:])):])
	le64(2<<20+1<<32/int(block)*8, 7)(b)
}

// Each structure that exists twice is still good when one copy is damaged.
func TestInspectVHDXUsesTheIntactCopy(t *testing.T) {
	for _, places := range [][]int{{64 << 10}, {128 << 10}, {192 << 10}, {256 << 10}, {64 << 10, 192 << 10}} {
		content := golden(t, "dynamic.vhdx")
		for _, place := range places {
			content[place+60] ^= 0xff
		}
		if info, err := inspectAt(content); err != nil || info.VirtualSize != 1049088 {
			t.Errorf("damaged at %v: %+v, %v", places, info, err)
		}
	}
	for message, places := range map[string][]int{"no intact header": {64 << 10, 128 << 10}, "no intact region table": {192 << 10, 256 << 10}} {
		content := golden(t, "dynamic.vhdx")
		for _, place := range places {
			content[place+60] ^= 0xff
		}
		info, err := inspectAt(content)
		wantError(t, info, err, Corrupt, message)
	}
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
