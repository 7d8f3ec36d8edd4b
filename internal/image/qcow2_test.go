// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// qcow2File is a small valid image of version 3: clusters of 64 KiB, a disk of
// 1 GiB, tables in clusters 1 and 2, three clusters long.
func qcow2File() []byte {
	b := make([]byte, 3*65536)
	copy(b, "QFI\xfb")
	be := binary.BigEndian
	be.PutUint32(b[4:], 3)
	be.PutUint32(b[20:], 16)
	be.PutUint64(b[24:], 1<<30)
	be.PutUint32(b[36:], 2)
	be.PutUint64(b[40:], 2*65536)
	be.PutUint64(b[48:], 65536)
	be.PutUint32(b[56:], 1)
	be.PutUint32(b[96:], 4)
	be.PutUint32(b[100:], 112)
	return b
}

// qcow2FileV2 is the same disk in version 2.
func qcow2FileV2() []byte {
	b := qcow2File()
	binary.BigEndian.PutUint32(b[4:], 2)
	clear(b[72:112])
	return b
}

func put32(at int, value uint32) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint32(b[at:], value) }
}

func put64(at int, value uint64) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint64(b[at:], value) }
}

// extension writes a header extension's type and length.
func extension(at int, kind, length uint32) func([]byte) {
	return func(b []byte) {
		put32(at, kind)(b)
		put32(at+4, length)(b)
	}
}

func changed(b []byte, changes ...func([]byte)) []byte {
	for _, change := range changes {
		change(b)
	}
	return b
}

func TestInspectQCOW2Accepts(t *testing.T) {
	for _, tc := range []struct {
		title string
		file  []byte
		want  int64
	}{
		{"version 3", qcow2File(), 1 << 30},
		{"version 2", qcow2FileV2(), 1 << 30},
		{"size is no multiple of a sector", changed(qcow2File(), put64(24, 1000)), 1024},
		{"header of 104 bytes", changed(qcow2File(), put32(100, 104)), 1 << 30},
		{"not closed properly", changed(qcow2File(), put64(72, 1)), 1 << 30},
		{"zstd", changed(qcow2File(), put64(72, 8), func(b []byte) { b[104] = 1 }), 1 << 30},
		{"subclusters", changed(qcow2File(), put64(72, 16), put32(36, 4)), 1 << 30},
		{"compatible features are ignorable", changed(qcow2File(), put64(80, 1<<63|1)), 1 << 30},
		{"autoclear features are ignorable", changed(qcow2File(), put64(88, 1<<63|1)), 1 << 30},
		{"feature names and bitmaps", changed(qcow2File(), extension(112, 0x6803f857, 384), extension(112+8+384, 0x23852875, 24)), 1 << 30},
		{"unknown extension", changed(qcow2File(), extension(112, 0x12345678, 5)), 1 << 30},
		{"extensions fill the cluster", changed(qcow2File(), extension(112, 0x12345678, 65536-112-8)), 1 << 30},
		{"smallest clusters", changed(qcow2File(), put32(20, 9), put64(24, 1<<20), put32(36, 32)), 1 << 20},
		{"largest disk", changed(qcow2File(), put32(20, 21), put64(24, 64<<40), put32(36, 128), put64(40, 2<<21), put64(48, 1<<21)), 64 << 40},
	} {
		t.Run(tc.title, func(t *testing.T) {
			size := int64(len(tc.file))
			if tc.title == "largest disk" {
				size = 8 << 21
			}
			info, err := Inspect(tc.file, size)
			if err != nil {
				t.Fatal(err)
			}
			if want := (Info{Format: "qcow2", VirtualSize: tc.want}); info != want {
				t.Errorf("got %+v, want %+v", info, want)
			}
			if unsized, err := Inspect(tc.file, UnknownSize); err != nil || unsized != info {
				t.Errorf("without a size: %+v, %v", unsized, err)
			}
		})
	}
}

func TestInspectQCOW2Refuses(t *testing.T) {
	for _, tc := range []struct {
		title   string
		file    []byte
		kind    Kind
		message string
	}{
		{"magic only", []byte("QFI\xfb"), Corrupt, "truncated"},
		{"half a header", qcow2File()[:60], Corrupt, "truncated"},
		{"version 3 cut after version 2's fields", qcow2File()[:80], Corrupt, "truncated"},
		{"version 0", changed(qcow2File(), put32(4, 0)), NotSupported, "version 0"},
		{"version 1", changed(qcow2File(), put32(4, 1)), NotSupported, "version 1"},
		{"version 4", changed(qcow2File(), put32(4, 4)), NotSupported, "version 4"},
		{"backing file", changed(qcow2File(), put64(8, 200), put32(16, 11)), Refused, "backing file"},
		{"backing file of version 2", changed(qcow2FileV2(), put64(8, 200), put32(16, 11)), Refused, "backing file"},
		{"backing file's offset only", changed(qcow2File(), put64(8, 200)), Refused, "backing file"},
		{"backing file's length only", changed(qcow2File(), put32(16, 1)), Refused, "backing file"},
		{"backing format extension", changed(qcow2File(), extension(112, 0xe2792aca, 5)), Refused, "backing file's format"},
		{"backing format behind another extension", changed(qcow2File(), extension(112, 0x6803f857, 48), extension(168, 0xe2792aca, 5)), Refused, "backing file's format"},
		{"data file feature", changed(qcow2File(), put64(72, 4)), Refused, "external file"},
		{"data file extension", changed(qcow2File(), extension(112, 0x44415441, 5)), Refused, "external data file"},
		{"data file extension of version 2", changed(qcow2FileV2(), extension(72, 0x44415441, 5)), Refused, "external data file"},
		{"AES", changed(qcow2File(), put32(32, 1)), Refused, "encrypted"},
		{"LUKS", changed(qcow2File(), put32(32, 2)), Refused, "encrypted"},
		{"unknown encryption", changed(qcow2File(), put32(32, 77)), Refused, "encrypted"},
		{"encryption extension", changed(qcow2File(), extension(112, 0x0537be77, 16)), Refused, "encrypted"},
		{"snapshots", changed(qcow2File(), put32(60, 2)), Refused, "2 internal snapshots"},
		{"marked corrupt", changed(qcow2File(), put64(72, 2)), Corrupt, "marked as corrupt"},
		{"unknown feature", changed(qcow2File(), put64(72, 32)), Refused, "unknown features"},
		{"highest unknown feature", changed(qcow2File(), put64(72, 1<<63)), Refused, "unknown features"},
		{"clusters too small", changed(qcow2File(), put32(20, 8)), Corrupt, "2^8"},
		{"clusters too large", changed(qcow2File(), put32(20, 22)), Corrupt, "2^22"},
		{"clusters beyond arithmetic", changed(qcow2File(), put32(20, 0xffffffff)), Corrupt, "2^4294967295"},
		{"no clusters", changed(qcow2File(), put32(20, 0)), Corrupt, "2^0"},
		{"subclusters in small clusters", changed(qcow2File(), put64(72, 16), put32(20, 13)), Corrupt, "subclusters"},
		{"empty disk", changed(qcow2File(), put64(24, 0)), Corrupt, "virtual size of 0"},
		{"disk too large", changed(qcow2File(), put64(24, 64<<40+1)), Refused, "at most"},
		{"disk beyond a signed integer", changed(qcow2File(), put64(24, 1<<63)), Refused, "at most"},
		{"disk of all ones", changed(qcow2File(), put64(24, ^uint64(0))), Refused, "at most"},
		{"wide reference counts", changed(qcow2File(), put32(96, 7)), Corrupt, "reference counts"},
		{"header too short", changed(qcow2File(), put32(100, 72)), Corrupt, "length of 72"},
		{"header of an odd length", changed(qcow2File(), put32(100, 105)), Corrupt, "length of 105"},
		{"header longer than its cluster", changed(qcow2File(), put32(100, 65544)), Corrupt, "length of 65544"},
		{"header beyond arithmetic", changed(qcow2File(), put32(100, 0xfffffff8)), Corrupt, "length of 4294967288"},
		{"unknown compression", changed(qcow2File(), put64(72, 8), func(b []byte) { b[104] = 2 }), Refused, "unknown method"},
		{"zstd without the feature", changed(qcow2File(), func(b []byte) { b[104] = 1 }), Corrupt, "compression"},
		{"compression feature with zlib", changed(qcow2File(), put64(72, 8)), Corrupt, "compression"},
		{"compression feature without the field", changed(qcow2File(), put64(72, 8), put32(100, 104)), Corrupt, "compression"},
		{"extension longer than the cluster", changed(qcow2File(), extension(112, 1, 65536)), Corrupt, "does not fit"},
		{"extension beyond arithmetic", changed(qcow2File(), extension(112, 1, 0xffffffff)), Corrupt, "does not fit"},
		{"file ends in the extensions", changed(qcow2File(), extension(112, 1, 400))[:400], Corrupt, "cut off"},
		{"huge L1 table", changed(qcow2File(), put32(36, 4<<20+1)), Corrupt, "too many"},
		{"L1 table of all ones", changed(qcow2File(), put32(36, 0xffffffff)), Corrupt, "too many"},
		{"L1 table too small", changed(qcow2File(), put32(36, 1)), Corrupt, "needs 2"},
		{"L1 table too small for subclusters", changed(qcow2File(), put64(72, 16)), Corrupt, "needs 4"},
		{"no L1 table", changed(qcow2File(), put32(36, 0)), Corrupt, "needs 2"},
		{"L1 table in the header", changed(qcow2File(), put64(40, 0)), Corrupt, "L1 table"},
		{"L1 table between clusters", changed(qcow2File(), put64(40, 65537)), Corrupt, "L1 table"},
		{"L1 table behind the end", changed(qcow2File(), put64(40, 3*65536)), Corrupt, "truncated"},
		{"L1 table far behind the end", changed(qcow2File(), put64(40, 1<<63)), Corrupt, "outside"},
		{"no reference counts", changed(qcow2File(), put32(56, 0)), Corrupt, "no table"},
		{"huge reference counts", changed(qcow2File(), put32(56, 129)), Corrupt, "too many"},
		{"reference counts of all ones", changed(qcow2File(), put32(56, 0xffffffff)), Corrupt, "too many"},
		{"reference counts in the header", changed(qcow2File(), put64(48, 0)), Corrupt, "reference counts"},
		{"reference counts between clusters", changed(qcow2File(), put64(48, 65536+512)), Corrupt, "reference counts"},
		{"reference counts behind the end", changed(qcow2File(), put32(56, 3)), Corrupt, "truncated"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			info, err := Inspect(tc.file, int64(len(tc.file)))
			wantError(t, info, err, tc.kind, tc.message)
		})
	}
}

// The head that the importer reads may be much shorter than the file.
func TestInspectQCOW2ComparesTablesWithTheWholeFile(t *testing.T) {
	file := changed(qcow2File(), put64(40, 1<<30))
	if _, err := Inspect(file, 1<<30+65536); err != nil {
		t.Errorf("table within the file: %v", err)
	}
	_, err := Inspect(file, 1<<30)
	wantError(t, Info{}, err, Corrupt, "truncated")
}

func wantError(t *testing.T, info Info, err error, kind Kind, message string) {
	t.Helper()
	var typed *Error
	switch {
	case !errors.As(err, &typed):
		t.Fatalf("got %+v, %v", info, err)
	case typed.Kind != kind:
		t.Errorf("kind %d, want %d (%v)", typed.Kind, kind, err)
	case !strings.Contains(err.Error(), message):
		t.Errorf("message %q does not mention %q", err, message)
	case info != (Info{}):
		t.Errorf("a refused image has an info: %+v", info)
	}
}
