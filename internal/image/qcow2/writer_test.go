// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/image"
)

// allocate marks the sectors of the disk that hold anything.
func allocate(t testing.TB, disk []byte, clusterSize int64) *Allocation {
	t.Helper()
	a, err := NewAllocation(int64(len(disk)), clusterSize)
	if err != nil {
		t.Fatal(err)
	}
	for at := 0; at < len(disk); at += 512 {
		sector := disk[at:min(at+512, len(disk))]
		if len(bytes.Trim(sector, "\x00")) > 0 {
			a.Mark(int64(at), int64(len(sector)))
		}
	}
	return a
}

func write(t testing.TB, disk []byte, clusterSize int64) []byte {
	t.Helper()
	w, err := NewWriter(allocate(t, disk, clusterSize))
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(io.NewSectionReader(w.File(bytes.NewReader(disk)), 0, w.Size()))
	if err != nil || int64(len(file)) != w.Size() {
		t.Fatalf("%d bytes of %d: %v", len(file), w.Size(), err)
	}
	return file
}

// noisyDisk has a few pieces of data at random places.
func noisyDisk(size int) []byte {
	random := rand.New(rand.NewPCG(1, uint64(size)))
	disk := make([]byte, size)
	for range 40 {
		at := random.IntN(size)
		for n := range disk[at:min(at+random.IntN(20000), size)] {
			disk[at+n] = byte(random.Uint32())
		}
	}
	return disk
}

func disks() map[string][]byte {
	return map[string][]byte{
		"golden":         goldenDisk(),
		"empty":          make([]byte, 1<<20),
		"one sector":     bytes.Repeat([]byte{7}, 512),
		"one byte":       {7},
		"noisy":          noisyDisk(3<<20 + 777),
		"full":           bytes.Repeat([]byte("full"), 1<<18),
		"end only":       append(make([]byte, 1<<20), 1),
		"beginning only": append([]byte{1}, make([]byte, 1<<20)...),
	}
}

func TestWritesWhatItReads(t *testing.T) {
	for title, disk := range disks() {
		for _, clusterSize := range []int64{512, 4096, 65536, 2 << 20} {
			file := write(t, disk, clusterSize)
			info, err := image.Inspect(file, int64(len(file)))
			sectors := (int64(len(disk)) + 511) / 512 * 512
			if want := (image.Info{Format: image.FormatQCOW2, VirtualSize: sectors}); err != nil || info != want {
				t.Errorf("%s in %d: %+v, %v", title, clusterSize, info, err)
			}
			i, err := open(file)
			if err != nil {
				t.Fatalf("%s in %d: %v", title, clusterSize, err)
			}
			got := unpack(t, i, file)
			if !bytes.Equal(got[:len(disk)], disk) || len(bytes.Trim(got[len(disk):], "\x00")) > 0 {
				t.Errorf("%s in %d: the disk differs", title, clusterSize)
			}
			checkRefcounts(t, file, clusterSize)
		}
	}
}

// checkRefcounts verifies that all clusters of the file, and no others, are
// counted once.
func checkRefcounts(t *testing.T, file []byte, clusterSize int64) {
	t.Helper()
	be := binary.BigEndian
	table := file[be.Uint64(file[48:]):][:int64(be.Uint32(file[56:]))*clusterSize]
	cluster := int64(0)
	for ; len(table) > 0; table = table[8:] {
		block := be.Uint64(table)
		for n := int64(0); block != 0 && n < clusterSize; n += 2 {
			want := uint16(0)
			if cluster*clusterSize < int64(len(file)) {
				want = 1
			}
			if got := be.Uint16(file[int64(block)+n:]); got != want {
				t.Fatalf("cluster %d of %d is counted %d times", cluster, int64(len(file))/clusterSize, got)
			}
			cluster++
		}
	}
	if cluster*clusterSize < int64(len(file)) {
		t.Fatalf("%d clusters are counted of a file of %d bytes", cluster, len(file))
	}
}

// The bytes that QEMU found to be right once must stay the same.
func TestWritesTheGoldenImage(t *testing.T) {
	if !bytes.Equal(write(t, goldenDisk(), 4096), golden(t, "written")) {
		t.Error("the image differs from testdata/written.qcow2.gz")
	}
}

// Where QEMU is at hand, it has the last word.
func TestQEMUAgrees(t *testing.T) {
	tool, err := exec.LookPath("qemu-img")
	if err != nil {
		return
	}
	folder := t.TempDir()
	raw, qcow2 := filepath.Join(folder, "disk.raw"), filepath.Join(folder, "disk.qcow2")
	for title, disk := range disks() {
		if err := os.WriteFile(raw, disk, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, clusterSize := range []int64{512, 65536, 2 << 20} {
			if err := os.WriteFile(qcow2, write(t, disk, clusterSize), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, arguments := range [][]string{{"check", "-f", "qcow2", qcow2}, {"compare", "-f", "qcow2", "-F", "raw", qcow2, raw}} {
				if output, err := exec.Command(tool, arguments...).CombinedOutput(); err != nil {
					t.Errorf("%s in %d: %s: %v\n%s", title, clusterSize, arguments[0], err, output)
				}
			}
		}
	}
}

func TestFileIsReadInAnyOrder(t *testing.T) {
	disk := noisyDisk(2<<20 + 100)
	whole := write(t, disk, 4096)
	w, err := NewWriter(allocate(t, disk, 4096))
	if err != nil {
		t.Fatal(err)
	}
	file := w.File(bytes.NewReader(disk))
	random := rand.New(rand.NewPCG(2, 2))
	for range 2000 {
		at := random.IntN(len(whole))
		p := bytes.Repeat([]byte{0xaa}, 1+random.IntN(20000))
		n, err := file.ReadAt(p, int64(at))
		want := whole[at:min(at+len(p), len(whole))]
		if !bytes.Equal(p[:n], want) {
			t.Fatalf("%d bytes at %d differ", len(p), at)
		}
		if (err != nil) != (n < len(p)) || err != nil && !errors.Is(err, io.EOF) {
			t.Fatalf("%d of %d bytes at %d: %v", n, len(p), at, err)
		}
	}
	if n, err := file.ReadAt(make([]byte, 1), w.Size()); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %d, %v", n, err)
	}
	if n, err := file.ReadAt(make([]byte, 1), -1); n != 0 || err == nil || errors.Is(err, io.EOF) {
		t.Errorf("before the beginning: %d, %v", n, err)
	}
}

// recorder remembers what of a disk is read.
type recorder struct {
	io.ReaderAt
	reads [][2]int64
}

func (r *recorder) ReadAt(p []byte, offset int64) (int, error) {
	r.reads = append(r.reads, [2]int64{offset, int64(len(p))})
	return r.ReaderAt.ReadAt(p, offset)
}

// The disk is read in pieces as large as the caller's, not cluster by cluster.
func TestFileReadsNeighboursAtOnce(t *testing.T) {
	disk := make([]byte, 1<<20)
	a, err := NewAllocation(int64(len(disk)), 4096)
	if err != nil {
		t.Fatal(err)
	}
	a.Mark(100_000, 300_000)
	a.Mark(800_000, 1)
	w, err := NewWriter(a)
	if err != nil {
		t.Fatal(err)
	}
	source := &recorder{ReaderAt: bytes.NewReader(disk)}
	if n, err := w.File(source).ReadAt(make([]byte, w.Size()), 0); int64(n) != w.Size() || err != nil {
		t.Fatal(n, err)
	}
	want := [][2]int64{{98304, 303104}, {798720, 4096}}
	if len(source.reads) != 2 || source.reads[0] != want[0] || source.reads[1] != want[1] {
		t.Errorf("read %v, want %v", source.reads, want)
	}
}

func TestFileTellsWhyTheDiskCannotBeRead(t *testing.T) {
	disk := bytes.Repeat([]byte{1}, 1<<20)
	w, err := NewWriter(allocate(t, disk, 4096))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, w.Size())
	if _, err := w.File(bytes.NewReader(disk[:1<<19])).ReadAt(p, 0); !errors.Is(err, io.ErrUnexpectedEOF) || !strings.Contains(err.Error(), "byte 524288") {
		t.Errorf("a disk that is too short: %v", err)
	}
	cause := errors.New("bad sector")
	if _, err := w.File(failAt{bytes.NewReader(disk), 0, cause}).ReadAt(p, 0); !errors.Is(err, cause) {
		t.Errorf("a disk that fails: %v", err)
	}
}
