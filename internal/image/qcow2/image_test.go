// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/image"
)

// goldenDisk is the disk that all images in testdata hold.
func goldenDisk() []byte {
	disk := make([]byte, 1<<20+512)
	for sector := range len(disk) / 512 {
		if sector%37 < 5 && (sector < 700 || sector >= 1400) {
			for at := range 512 {
				disk[sector*512+at] = byte(sector*7 + at/16 + 1)
			}
		}
	}
	return disk
}

// golden reads an image of testdata.
func golden(t testing.TB, name string) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join("testdata", name+".qcow2.gz"))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func open(file []byte) (*Image, error) { return Open(bytes.NewReader(file), int64(len(file))) }

// unpack makes the disk out of the image, the way a caller does.
func unpack(t testing.TB, i *Image, file []byte) []byte {
	t.Helper()
	disk := make([]byte, i.VirtualSize())
	for e := range i.Extents() {
		to, from := disk[e.GuestOffset:][:e.Length], file[e.HostOffset:][:e.HostLength]
		switch e.Kind {
		case Data:
			copy(to, from)
		case Compressed:
			if err := i.Decompress(to, from); err != nil {
				t.Fatal(err)
			}
		}
	}
	return disk
}

func TestReadsWhatQEMUWrites(t *testing.T) {
	for _, tc := range []struct {
		name        string
		clusterSize int64
		extents     map[Kind]int
	}{
		{"plain", 65536, map[Kind]int{Data: 2}},
		{"v2", 65536, map[Kind]int{Data: 2}},
		{"smallest-clusters", 512, map[Kind]int{Data: 39}},
		{"largest-clusters", 2 << 20, map[Kind]int{Data: 1}},
		{"deflate", 65536, map[Kind]int{Compressed: 12}},
		{"deflate-4k", 4096, map[Kind]int{Compressed: 55}},
		{"zstd", 4096, map[Kind]int{Compressed: 55}},
		{"preallocated", 65536, map[Kind]int{Data: 1}},
		{"refcount1", 65536, map[Kind]int{Data: 2}},
		{"scattered", 4096, map[Kind]int{Data: 55, Zero: 2}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			file := golden(t, tc.name)
			i, err := open(file)
			if err != nil {
				t.Fatal(err)
			}
			if i.VirtualSize() != 1<<20+512 || i.ClusterSize() != tc.clusterSize {
				t.Errorf("disk of %d bytes in clusters of %d", i.VirtualSize(), i.ClusterSize())
			}
			got := map[Kind]int{}
			var end int64
			for e := range i.Extents() {
				got[e.Kind]++
				if e.HostOffset < end-511 {
					t.Errorf("%+v begins before byte %d", e, end)
				}
				end = e.HostOffset + e.HostLength
			}
			for _, kind := range []Kind{Data, Zero, Compressed} {
				if got[kind] != tc.extents[kind] {
					t.Errorf("%d extents of kind %d, want %d", got[kind], kind, tc.extents[kind])
				}
			}
			if !bytes.Equal(unpack(t, i, file), goldenDisk()) {
				t.Error("the disk's content differs")
			}
		})
	}
}

func TestExtentsStopWhenToldTo(t *testing.T) {
	i, err := open(golden(t, "scattered"))
	if err != nil {
		t.Fatal(err)
	}
	count := 0
	for range i.Extents() {
		if count++; count == 3 {
			break
		}
	}
	if count != 3 {
		t.Errorf("%d extents", count)
	}
}

func TestLeavesExtendedEntriesToQEMU(t *testing.T) {
	_, err := open(golden(t, "extended"))
	if !errors.Is(err, ErrUnsupported) || !strings.Contains(err.Error(), "qemu-img") {
		t.Errorf("got %v", err)
	}
}

// edit changes 64-bit words of an image.
type edit func(file []byte)

func put64(at int64, value uint64) edit {
	return func(file []byte) { binary.BigEndian.PutUint64(file[at:], value) }
}

// Where tables are in plain and in deflate, which are both the simplest case.
func l1(file []byte) int64 { return int64(binary.BigEndian.Uint64(file[40:])) }
func l2(file []byte) int64 {
	return int64(binary.BigEndian.Uint64(file[l1(file):]) & offsetMask)
}

func l1Entry(value uint64) edit { return func(file []byte) { put64(l1(file), value)(file) } }

func l2Entry(value uint64) edit { return func(file []byte) { put64(l2(file), value)(file) } }

// copyEntry makes a cluster use another one's place.
func copyEntry(from, to int64) edit {
	return func(file []byte) { copy(file[l2(file)+8*to:][:8], file[l2(file)+8*from:][:8]) }
}

func TestRefusesBrokenTables(t *testing.T) {
	const copied, compressed, far = 1 << 63, 1 << 62, 1 << 40
	for _, tc := range []struct {
		title   string
		image   string
		edit    edit
		message string
	}{
		{"backing file", "plain", put64(8, 200), "backing file"},
		{"L1 table outside the file", "plain", put64(40, far), "truncated"},
		{"reserved bits of L1", "plain", l1Entry(copied | 0x40000 | 2), "reserved bits"},
		{"high reserved bits of L1", "plain", l1Entry(copied | 0x40000 | 1<<57), "reserved bits"},
		{"L2 table in the header", "plain", l1Entry(copied), "no cluster behind the header"},
		{"L2 table between clusters", "plain", l1Entry(copied | 0x40200), "no cluster"},
		{"L2 table outside the file", "plain", l1Entry(copied | far), "truncated"},
		{"L2 table at the largest offset", "plain", l1Entry(copied | offsetMask&^0xffff), "truncated"},
		{"L2 table is the L1 table", "plain", func(f []byte) { l1Entry(uint64(l1(f)) | copied)(f) }, "same place"},
		{"L2 table is the table of reference counts", "plain", func(f []byte) { l1Entry(binary.BigEndian.Uint64(f[48:]))(f) }, "same place"},
		{"reserved bits of L2", "plain", l2Entry(copied | 0x50000 | 2), "reserved bits"},
		{"high reserved bits of L2", "plain", l2Entry(copied | 0x50000 | 1<<60), "reserved bits"},
		{"cluster between clusters", "plain", l2Entry(copied | 0x50200), "no cluster begins"},
		{"cluster outside the file", "plain", l2Entry(copied | far), "truncated"},
		{"cluster at the largest offset", "plain", l2Entry(copied | offsetMask&^0xffff), "truncated"},
		{"zeros outside the file", "plain", l2Entry(copied | far | 1), "truncated"},
		{"zeros in version 2", "v2", l2Entry(1), "reserved bits"},
		{"cluster twice", "plain", copyEntry(0, 10), "same place"},
		{"cluster in the L2 table", "plain", func(f []byte) { l2Entry(uint64(l2(f)) | copied)(f) }, "same place"},
		{"cluster in the L1 table", "plain", func(f []byte) { l2Entry(uint64(l1(f)) | copied)(f) }, "same place"},
		{"copied compressed cluster", "deflate", l2Entry(compressed | copied | 0x50000), "reserved bits"},
		{"compressed cluster in the header", "deflate", l2Entry(compressed | 512), "header"},
		{"compressed cluster in the L1 table", "deflate", func(f []byte) { l2Entry(uint64(l1(f)) | compressed)(f) }, "same place"},
		{"compressed cluster outside the file", "deflate", l2Entry(compressed | far), "truncated"},
		{"compressed cluster at the largest offset", "deflate", l2Entry(compressed | 1<<54 - 1), "truncated"},
		{"compressed cluster twice", "deflate", copyEntry(0, 10), "same place"},
		{"compressed cluster in a longer one", "deflate", func(f []byte) {
			l2Entry(binary.BigEndian.Uint64(f[l2(f):]) | 255<<54)(f)
		}, "same place"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			file := golden(t, tc.image)
			tc.edit(file)
			_, err := open(file)
			wantCorrupt(t, err, tc.message)
		})
	}
}

func wantCorrupt(t *testing.T, err error, message string) {
	t.Helper()
	var typed *image.Error
	if !errors.As(err, &typed) || typed.Kind == image.NotSupported || !strings.Contains(err.Error(), message) {
		t.Errorf("got %v, want an error that mentions %q", err, message)
	}
}

func TestRefusesTruncatedFiles(t *testing.T) {
	for _, name := range []string{"plain", "deflate", "scattered", "smallest-clusters"} {
		file := golden(t, name)
		for _, length := range []int{0, 1, 100, 512, 65536, len(file) / 2, len(file) * 3 / 4} {
			if _, err := open(file[:length]); err == nil {
				t.Errorf("%s cut to %d of %d bytes is accepted", name, length, len(file))
			}
		}
	}
	if _, err := Open(bytes.NewReader(nil), -1); err == nil {
		t.Error("a file of unknown length is accepted")
	}
}

// A reader that has less than it says is a truncated file, too.
func TestRefusesFilesShorterThanPromised(t *testing.T) {
	file := golden(t, "plain")
	_, err := Open(bytes.NewReader(file[:l2(file)]), int64(len(file)))
	wantCorrupt(t, err, "truncated")
}

func TestKeepsTheReadersError(t *testing.T) {
	cause := errors.New("connection lost")
	file := golden(t, "plain")
	for _, failing := range []int64{0, l1(file), l2(file)} {
		_, err := Open(failAt{bytes.NewReader(file), failing, cause}, int64(len(file)))
		if !errors.Is(err, cause) {
			t.Errorf("reading byte %d: %v", failing, err)
		}
	}
}

type failAt struct {
	io.ReaderAt
	offset int64
	err    error
}

func (r failAt) ReadAt(p []byte, offset int64) (int, error) {
	if offset == r.offset {
		return 0, r.err
	}
	return r.ReaderAt.ReadAt(p, offset)
}

func TestDecompressRefusesDamage(t *testing.T) {
	for _, name := range []string{"deflate", "zstd"} {
		file := golden(t, name)
		i, err := open(file)
		if err != nil {
			t.Fatal(err)
		}
		for e := range i.Extents() {
			packed := file[e.HostOffset:][:e.HostLength]
			for title, damaged := range map[string][]byte{
				"nothing":   nil,
				"zeros":     make([]byte, len(packed)),
				"ones":      bytes.Repeat([]byte{0xff}, len(packed)),
				"cut short": packed[:8],
			} {
				wantCorrupt(t, i.Decompress(make([]byte, e.Length), damaged), "damaged")
				if t.Failed() {
					t.Fatal(name, title)
				}
			}
			break
		}
	}
}
