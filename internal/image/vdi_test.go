// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import "testing"

func TestInspectVDIRefuses(t *testing.T) {
	for _, tc := range []struct {
		title   string
		edit    func([]byte)
		kind    Kind
		message string
	}{
		{"version 0", le32(0x44, 0), NotSupported, "version 0.0"},
		{"version 1.2", le32(0x44, 0x10002), NotSupported, "version 1.2"},
		{"no type", le32(0x4c, 0), NotSupported, "type 0"},
		{"undo", le32(0x4c, 3), Refused, "undo"},
		{"differencing", le32(0x4c, 4), Refused, "differencing"},
		{"type of all ones", le32(0x4c, 1<<32-1), NotSupported, "unknown type"},
		{"link to a parent", le32(0x1a8, 1), Refused, "names a parent"},
		{"parent", le32(0x1b8+12, 1), Refused, "names a parent"},
		{"large sectors", le32(0x168, 4096), Refused, "sectors of 4096"},
		{"large blocks", le32(0x178, 2<<20), Refused, "blocks of 2097152"},
		{"no blocks", le32(0x178, 0), Refused, "blocks of 0"},
		{"blocks with something in front", le32(0x17c, 512), Refused, "blocks of"},
		{"empty disk", le64(0x170, 0), Corrupt, "virtual size of 0"},
		{"disk too large", le64(0x170, 64<<40+1), Refused, "at most"},
		{"disk of all ones", le64(0x170, 1<<64-1), Refused, "at most"},
		{"disk larger than its blocks", le64(0x170, 2<<20+1), Corrupt, "needs more"},
		{"more used than there are", le32(0x184, 3), Corrupt, "3 of them are used"},
		{"used of all ones", le32(0x184, 1<<32-1), Corrupt, "are used"},
		{"map in the header", le32(0x154, 0), Corrupt, "block map begins"},
		{"map between sectors", le32(0x154, 513), Corrupt, "block map begins"},
		{"map of all ones", le32(0x154, 1<<32-1), Corrupt, "block map begins"},
		{"map behind the blocks", le32(0x154, 1<<20), Corrupt, "behind the block map"},
		{"blocks in the map", le32(0x158, 512), Corrupt, "behind the block map"},
		{"blocks between sectors", le32(0x158, 1025), Corrupt, "behind the block map"},
		{"blocks behind the end", le32(0x158, 1<<30), Corrupt, "truncated"},
		{"map with a block that is not there", le32(512, 1), Corrupt, "only 1 are used"},
		{"map with the largest block", le32(516, 1<<32-3), Corrupt, "only 1 are used"},
		{"giant map", func(b []byte) { le32(0x180, 1<<32-1)(b); le32(0x158, 1<<31)(b) }, Corrupt, "behind the block map"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := inspectAt(changed(golden(t, "dynamic.vdi"), tc.edit))
			wantError(t, info, err, tc.kind, tc.message)
		})
	}
}

func TestInspectVDIAcceptsVariants(t *testing.T) {
	for title, tc := range map[string]struct {
		edit func([]byte)
		size int64
	}{
		"blocks of zeros":     {le32(512, 1<<32-2), 1049088},
		"size of no sectors":  {le64(0x170, 1000), 1024},
		"more blocks":         {le32(0x180, 3), 1049088},
		"nothing but zeros":   {func(b []byte) { le32(512, 1<<32-1)(b); le32(0x184, 0)(b) }, 1049088},
		"other identity":      {le64(0x188, 77), 1049088},
		"geometry of another": {le32(0x15c, 77), 1049088},
	} {
		info, err := inspectAt(changed(golden(t, "dynamic.vdi"), tc.edit))
		if want := (Info{Format: FormatVDI, VirtualSize: tc.size}); err != nil || info != want {
			t.Errorf("%s: %+v, %v", title, info, err)
		}
	}
}

// The map is looked at as far as it can be seen, in pieces.
func TestInspectVDIWithALargeMap(t *testing.T) {
	const blocks = 3 << 20
	content := make([]byte, 1024+blocks*4)
	copy(content, golden(t, "dynamic.vdi")[:512])
	changed(content, le64(0x170, blocks<<20), le32(0x180, blocks), le32(0x184, 0), le32(0x158, 1024+blocks*4))
	for n := range blocks {
		le32(512+n*4, 1<<32-1)(content)
	}
	want := Info{Format: FormatVDI, VirtualSize: blocks << 20}
	if info, err := inspectAt(content); err != nil || info != want {
		t.Errorf("got %+v, %v", info, err)
	}
	le32(512+(blocks-1)*4, 5)(content)
	info, err := inspectAt(content)
	wantError(t, info, err, Corrupt, "place 3145727")
	if info, err := Inspect(head(content), int64(len(content))); err != nil || info != want {
		t.Errorf("beginning: %+v, %v", info, err)
	}
}
