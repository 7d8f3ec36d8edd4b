// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const size = 8 << 20

func TestPlainImages(t *testing.T) {
	raw := rawDisk(5<<20 + 512)
	odd := raw[:3<<20+100]
	iso := make([]byte, 1<<20)
	copy(iso[32768:], "\x01CD001\x01")
	unsized := newServer(raw)
	unsized.sized = false
	for _, tc := range []struct {
		title string
		from  source.Source
		disk  []byte
		want  report.Result
	}{
		{"raw", newServer(raw), raw, report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 512, StoredSizeBytes: 5<<20 + 512, TransferredBytes: 5<<20 + 512}},
		{"raw, ranged", rangedServer(raw), raw, report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 512, StoredSizeBytes: 5<<20 + 512, TransferredBytes: 5<<20 + 512}},
		{"raw of no whole sectors", newServer(odd), odd, report.Result{Format: "raw", VirtualSizeBytes: 3<<20 + 512, StoredSizeBytes: 3<<20 + 100, TransferredBytes: 3<<20 + 100}},
		{"raw of unknown length", unsized, raw, report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 512, TransferredBytes: 5<<20 + 512}},
		{"raw, compressed", newServer(gzipped(t, raw)), raw, report.Result{Format: "raw", VirtualSizeBytes: 5<<20 + 512}},
		{"iso", newServer(iso), iso, report.Result{Format: "iso", VirtualSizeBytes: 1 << 20, StoredSizeBytes: 1 << 20, TransferredBytes: 1 << 20, CDROM: true}},
		{"as large as the volume", newServer(rawDisk(size)), rawDisk(size), report.Result{Format: "raw", VirtualSizeBytes: size, StoredSizeBytes: size, TransferredBytes: size}},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			directory := t.TempDir()
			progress := &Progress{}
			got, err := Fill(context.Background(), Options{
				Source: tc.from, Target: directory, Size: size, Progress: progress, Clock: clocktesting.NewFakeClock(time.Now()),
			})
			if err != nil {
				t.Fatal(err)
			}
			wantDisk(t, directory, tc.disk, size)
			if tc.want.TransferredBytes == 0 {
				tc.want.TransferredBytes = got.TransferredBytes
				tc.want.StoredSizeBytes = got.StoredSizeBytes
			}
			if *got != tc.want {
				t.Errorf("got %+v, want %+v", *got, tc.want)
			}
			if progress.Transferred() != got.TransferredBytes || progress.Phase() != "Transferring" {
				t.Errorf("%d of %d, %s", progress.Transferred(), progress.Total(), progress.Phase())
			}
		})
	}
}

func TestQCOW2Images(t *testing.T) {
	for _, name := range []string{"plain", "v2", "smallest-clusters", "largest-clusters", "deflate", "deflate-4k", "zstd", "preallocated", "refcount1", "scattered"} {
		t.Run(name, func(t *testing.T) {
			file := qcow2File(t, name)
			directory := t.TempDir()
			got, err := Fill(context.Background(), Options{
				Source: rangedServer(file), Target: directory, Size: size,
				Checksums: []image.Checksum{sha256Of(file), md5Of(t, file), sha256Of(file)},
				Clock:     clocktesting.NewFakeClock(time.Now()),
			})
			if err != nil {
				t.Fatal(err)
			}
			wantDisk(t, directory, qcow2Disk(), size)
			// The tables are read at random, and a second time in the stream.
			if got.TransferredBytes < int64(len(file)) || got.TransferredBytes > 3*int64(len(file)) {
				t.Errorf("%d bytes of %d transferred", got.TransferredBytes, len(file))
			}
			got.TransferredBytes = 0
			if want := (report.Result{Format: "qcow2", VirtualSizeBytes: 1<<20 + 512, StoredSizeBytes: int64(len(file))}); *got != want {
				t.Errorf("got %+v, want %+v", *got, want)
			}
		})
	}
}

// Zeros of the image take no space.
func TestHolesStayHoles(t *testing.T) {
	raw := make([]byte, 64<<20)
	copy(raw, rawDisk(1<<20))
	directory := t.TempDir()
	if _, err := Fill(context.Background(), Options{Source: newServer(raw), Target: directory, Size: 64 << 20}); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Join(directory, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 2<<20 {
		t.Errorf("the disk takes %d bytes", used)
	}
}

func TestChecksums(t *testing.T) {
	raw := rawDisk(2 << 20)
	qcow2 := qcow2File(t, "deflate")
	compressed := gzipped(t, raw)
	for _, tc := range []struct {
		title string
		from  source.Source
		file  []byte
	}{
		{"raw", newServer(raw), raw},
		{"qcow2", rangedServer(qcow2), qcow2},
		{"compressed", newServer(compressed), compressed},
		{"compressed, with something behind", newServer(append(bytes.Clone(compressed), gzipped(t, nil)...)), append(bytes.Clone(compressed), gzipped(t, nil)...)},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			for _, right := range []bool{true, false} {
				sum := sha256Of(tc.file)
				if !right {
					sum.Sum[0] ^= 1
				}
				_, err := Fill(context.Background(), Options{
					Source: tc.from, Target: t.TempDir(), Size: size, Checksums: []image.Checksum{md5Of(t, tc.file), sum},
				})
				var mismatch *image.MismatchError
				if right && err != nil || !right && (!errors.As(err, &mismatch) || mismatch.Want.Algorithm != "sha256") {
					t.Errorf("right: %t, got %v", right, err)
				}
			}
		})
	}
}

func TestImagesThatDoNotFit(t *testing.T) {
	raw := rawDisk(5 << 20)
	unsized := newServer(raw)
	unsized.sized = false
	for _, tc := range []struct {
		title   string
		from    source.Source
		size    int64
		message string
	}{
		{"raw", newServer(raw), 4 << 20, "the image's disk has 5242880 bytes but this disk has 4194304: 1048576 are missing; set spec.persistentVolumeClaim.size to at least 5Mi"},
		{"raw, one sector", newServer(rawDisk(4<<20 + 512)), 4 << 20, "512 are missing; set spec.persistentVolumeClaim.size to at least 5Mi"},
		{"qcow2", rangedServer(qcow2File(t, "plain")), 1 << 20, "the image's disk has 1049088 bytes"},
		{"unknown length", unsized, 4 << 20, "more than the 4194304 bytes that this disk has"},
		{"compressed", newServer(gzipped(t, raw)), 4 << 20, "set spec.persistentVolumeClaim.size to more than 4Mi"},
		{"larger than the file system", newServer(raw), 1 << 60, "the volume has"},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			_, err := Fill(context.Background(), Options{Source: tc.from, Target: t.TempDir(), Size: tc.size})
			wantFailure(t, err, report.VolumeTooSmall, tc.message)
			if !isPermanent(err) {
				t.Error("not permanent")
			}
		})
	}
}

func TestQuantity(t *testing.T) {
	for _, tc := range []struct {
		size int64
		want string
	}{
		{1, "1Mi"}, {1 << 20, "1Mi"}, {1<<20 + 1, "2Mi"}, {1 << 30, "1Gi"}, {1<<30 + 1, "1025Mi"}, {10 << 30, "10Gi"}, {10<<30 + 1, "11Gi"}, {64 << 40, "65536Gi"},
	} {
		if got := quantity(tc.size); got != tc.want {
			t.Errorf("%d: %s, want %s", tc.size, got, tc.want)
		}
	}
}

func TestBrokenImages(t *testing.T) {
	raw := rawDisk(2 << 20)
	compressed := gzipped(t, raw)
	truncated := qcow2File(t, "plain")
	truncated = truncated[:len(truncated)-70000]
	damaged := bytes.Clone(compressed)
	damaged[len(damaged)/2] ^= 0xff
	foreign := make([]byte, 4096)
	copy(foreign, "<html>")
	for _, tc := range []struct {
		title   string
		from    source.Source
		message string
	}{
		{"no image", newServer(foreign), "not a disk image"},
		{"empty", newServer(nil), "empty"},
		{"truncated gzip", newServer(compressed[:len(compressed)/2]), "cannot be decompressed (gzip)"},
		{"damaged gzip", newServer(damaged), "cannot be decompressed (gzip)"},
		{"nothing but a gzip header", newServer([]byte("\x1f\x8b\x08")), "cannot be decompressed (gzip)"},
		{"truncated qcow2", rangedServer(truncated), "truncated"},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			_, err := Fill(context.Background(), Options{Source: tc.from, Target: t.TempDir(), Size: size})
			if err == nil || !isPermanent(err) || !strings.Contains(err.Error(), tc.message) {
				t.Errorf("got %v, want %q", err, tc.message)
			}
		})
	}
}

func TestSourceErrorsAreTheCause(t *testing.T) {
	gone := &source.Error{Reason: report.SourceUnreachable, Message: "the source is gone"}
	for _, tc := range []struct {
		title   string
		content []byte
	}{
		{"raw", rawDisk(5 << 20)}, {"compressed", gzipped(t, rawDisk(5<<20))}, {"qcow2", qcow2File(t, "preallocated")},
	} {
		t.Run(tc.title, func(t *testing.T) {
			from := rangedServer(tc.content)
			from.hook = func(offset int64) error {
				if offset > int64(len(tc.content))*2/3 {
					return gone
				}
				return nil
			}
			if _, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: size}); !errors.Is(err, gone) {
				t.Errorf("got %v", err)
			}
		})
	}
}

// A source that lies about its length is read again, not for ever.
func TestLengthThatIsNotTrue(t *testing.T) {
	from := newServer(rawDisk(5 << 20))
	lying := lengthOf{from, 6 << 20}
	_, err := Fill(context.Background(), Options{Source: lying, Target: t.TempDir(), Size: size})
	var changed *source.ChangedError
	if !errors.As(err, &changed) || len(from.opened) != 5 {
		t.Errorf("got %v after %v", err, from.opened)
	}
}

type lengthOf struct {
	*server
	length int64
}

type streamOfLength struct {
	source.Stream
	length int64
}

func (l lengthOf) Open(ctx context.Context) (source.Stream, error) {
	opened, err := l.server.Open(ctx)
	return streamOfLength{opened, l.length}, err
}

func (s streamOfLength) Size() int64 { return s.length }

func TestImageThatChangesIsBegunAnew(t *testing.T) {
	old, changed := qcow2File(t, "plain"), qcow2File(t, "deflate")
	from := rangedServer(old)
	var once bool
	from.hook = func(offset int64) error {
		if !once && offset > 100<<10 {
			once = true
			from.content, from.validator = changed, `"v2"`
			return &source.ChangedError{Why: "another file"}
		}
		return nil
	}
	directory := t.TempDir()
	got, err := Fill(context.Background(), Options{Source: from, Target: directory, Size: size, Checksums: []image.Checksum{sha256Of(changed)}})
	if err != nil {
		t.Fatal(err)
	}
	if got.StoredSizeBytes != int64(len(changed)) {
		t.Errorf("got %+v", got)
	}
	wantDisk(t, directory, qcow2Disk(), size)
}

// Tables that are not those of the file never pass for an image with the right
// checksum.
func TestTablesHaveToBeThoseOfTheStream(t *testing.T) {
	file := qcow2File(t, "scattered")
	other := bytes.Clone(file)
	from := rangedServer(file)
	from.atRandom = func(p []byte, offset int64) (int, error) { return bytes.NewReader(other).ReadAt(p, offset) }
	if _, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: size}); err != nil {
		t.Fatal(err)
	}
	// An incompatible version would be noticed at once; the time of a refcount block's use never.
	other[88] ^= 1
	_, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: size})
	var changed *source.ChangedError
	if !errors.As(err, &changed) || !strings.Contains(changed.Why, "tables") {
		t.Errorf("got %v", err)
	}
}

func TestCancelledFill(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	from := rangedServer(rawDisk(5 << 20))
	from.hook = func(offset int64) error {
		if offset > 3<<20 {
			cancel()
		}
		return nil
	}
	if _, err := Fill(ctx, Options{Source: from, Target: t.TempDir(), Size: size}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestStaging(t *testing.T) {
	file := qcow2File(t, "deflate")
	for _, tc := range []struct {
		title string
		from  *server
	}{
		{"not ranged", newServer(file)},
		{"compressed", newServer(gzipped(t, file))},
	} {
		t.Run(title(tc.title), func(t *testing.T) {
			directory := t.TempDir()
			place := &registry{}
			got, err := Fill(context.Background(), Options{Source: tc.from, Target: directory, Size: size, Stage: place.stage, Clock: clocktesting.NewFakeClock(time.Now())})
			if err != nil {
				t.Fatal(err)
			}
			wantDisk(t, directory, qcow2Disk(), size)
			want := report.Result{Format: "qcow2", VirtualSizeBytes: 1<<20 + 512, StoredSizeBytes: int64(len(file)), TransferredBytes: int64(len(tc.from.content))}
			if *got != want {
				t.Errorf("got %+v, want %+v", *got, want)
			}
			// The bytes of an upload come once, whoever reads them.
			if len(tc.from.opened) != 1 || !bytes.Equal(place.content, file) || !place.removed {
				t.Errorf("opened %v, staged %d bytes, removed %t", tc.from.opened, len(place.content), place.removed)
			}
		})
	}
}

func TestStagingThatFails(t *testing.T) {
	from := newServer(qcow2File(t, "plain"))
	_, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: size})
	wantFailure(t, err, report.FormatNotSupported, "cannot be read at random")

	full := &report.Failure{Reason: report.RegistryFull, Message: "full"}
	if _, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: size, Stage: (&registry{fail: full}).stage}); !errors.Is(err, full) {
		t.Errorf("got %v", err)
	}

	// What is staged stays for the next attempt if that may end otherwise.
	unreachable := &source.Error{Reason: report.SourceUnreachable, Message: "the registry is gone"}
	for cause, removed := range map[error]bool{unreachable: false, &image.Error{Kind: image.Corrupt, Message: "broken"}: true} {
		place := &registry{broken: func([]byte, int64) (int, error) { return 0, cause }}
		_, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: size, Stage: place.stage})
		if !errors.Is(err, cause) || place.removed != removed {
			t.Errorf("got %v, removed %t", err, place.removed)
		}
	}
}

func TestStagingIsContinued(t *testing.T) {
	for title, resume := range map[string]*report.Checkpoint{
		"an upload":     {Order: "o", Offset: 7, Upload: "/v2/x"},
		"a parked file": {Order: "o", Sink: `{"format":"","virtualSize":0,"parked":"sha256:00"}`},
	} {
		place := &registry{}
		from := newServer(qcow2File(t, "plain"))
		if _, err := Fill(context.Background(), Options{Source: from, Target: t.TempDir(), Size: size, Stage: place.stage, Resume: resume}); err != nil {
			t.Fatal(err)
		}
		if place.resumed != resume || len(from.opened) != 1 {
			t.Errorf("%s: resumed %v, opened %v", title, place.resumed, from.opened)
		}
	}
}

// fixedVHD is a raw disk with a footer behind it.
func fixedVHD(disk []byte) []byte {
	footer := make([]byte, 512)
	copy(footer, "conectix\x00\x00\x00\x02\x00\x01\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff")
	copy(footer[28:], "qem2")
	binary.BigEndian.PutUint64(footer[40:], uint64(len(disk)))
	binary.BigEndian.PutUint64(footer[48:], uint64(len(disk)))
	binary.BigEndian.PutUint32(footer[60:], 2)
	var sum uint32
	for _, b := range footer {
		sum += uint32(b)
	}
	binary.BigEndian.PutUint32(footer[64:], ^sum)
	return append(bytes.Clone(disk), footer...)
}

// The footer of a fixed VHD is not on the disk, which may have no room for it.
func TestFixedVHD(t *testing.T) {
	disk := rawDisk(2 << 20)
	file := fixedVHD(disk)
	unsized := newServer(file)
	unsized.sized = false
	for name, from := range map[string]source.Source{"known length": newServer(file), "unknown length": unsized, "compressed": newServer(gzipped(t, file))} {
		for _, size := range []int64{2 << 20, 3 << 20} {
			t.Run(title(name, size), func(t *testing.T) {
				directory := t.TempDir()
				got, err := Fill(context.Background(), Options{Source: from, Target: directory, Size: size})
				if err != nil {
					t.Fatal(err)
				}
				if got.Format != "vpc" || got.VirtualSizeBytes != 2<<20 {
					t.Errorf("got %+v", got)
				}
				wantDisk(t, directory, disk, size)
			})
		}
	}
}

// The footer is recognised although it comes after a restart.
func TestFixedVHDIsContinued(t *testing.T) {
	disk := rawDisk(4 * 64 << 10)
	file := fixedVHD(disk)
	all := record(t, rangedServer(file), Options{})
	c := all[len(all)-1]
	if c.Offset != int64(len(disk)) {
		t.Fatalf("the last checkpoint is at %d", c.Offset)
	}
	got, err := fillInSteps(context.Background(), Options{Source: rangedServer(file), Target: c.directory, Size: little, Resume: &c.Checkpoint}, small)
	if err != nil {
		t.Fatal(err)
	}
	if got.Format != "vpc" || got.VirtualSizeBytes != int64(len(disk)) {
		t.Errorf("got %+v", got)
	}
	wantDisk(t, c.directory, disk, little)
}
