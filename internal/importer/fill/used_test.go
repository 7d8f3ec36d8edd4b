// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/deckhouse/virtualization/internal/image/qcow2"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

// usedDisk is one that somebody had before and that cannot be made zero but by
// writing.
func usedDisk(t *testing.T) (*disk, string) {
	t.Helper()
	directory := t.TempDir()
	if err := os.WriteFile(filepath.Join(directory, "disk.img"), bytes.Repeat([]byte{0xa5}, little), 0o600); err != nil {
		t.Fatal(err)
	}
	v, err := volume.Open(volume.Options{Path: directory, Size: little, Continue: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return &disk{Volume: v}, directory
}

func TestUsedDiskGetsAPlainImage(t *testing.T) {
	raw := rawDisk(300<<10 + 512)
	d, directory := usedDisk(t)
	l := &pipeline{steps: small, consumers: []consumer{newPlain(d, little)}, interrupt: func() {}, reach: func(context.Context, *mark) error { return nil }}
	if _, err := l.run(context.Background(), bytes.NewReader(raw), 0); err != nil {
		t.Fatal(err)
	}
	wantDisk(t, directory, raw, little)
}

func TestUsedDiskGetsAQCOW2Image(t *testing.T) {
	for _, name := range []string{"plain", "deflate", "scattered", "smallest-clusters"} {
		t.Run(name, func(t *testing.T) {
			file := qcow2File(t, name)
			structure, err := qcow2.Open(bytes.NewReader(file), int64(len(file)))
			if err != nil {
				t.Fatal(err)
			}
			d, directory := usedDisk(t)
			s, stop, err := newScatter(d, structure, 0, bytes.NewReader(file))
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			l := &pipeline{steps: small, consumers: []consumer{s}, beside: s.zero, interrupt: func() {}, reach: func(context.Context, *mark) error { return nil }}
			if _, err := l.run(context.Background(), bytes.NewReader(file), 0); err != nil {
				t.Fatal(err)
			}
			wantDisk(t, directory, qcow2Disk(), little)
		})
	}
}

// Nothing counts as durable before the holes are zero.
func TestHolesComeFirst(t *testing.T) {
	file := qcow2File(t, "plain")
	structure, err := qcow2.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	d, directory := usedDisk(t)
	s, stop, err := newScatter(d, structure, 0, bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	begin := make(chan struct{})
	start := sync.OnceFunc(func() { close(begin) })
	l := &pipeline{steps: small, consumers: []consumer{s}, interrupt: func() {}}
	l.beside = func(ctx context.Context) error {
		<-begin
		return s.zero(ctx)
	}
	l.reach = func(context.Context, *mark) error {
		content, err := os.ReadFile(filepath.Join(directory, "disk.img"))
		if err != nil {
			return err
		}
		if !volume.IsZero(content[len(qcow2Disk()):]) {
			t.Error("a mark is reached before the end of the disk is zero")
		}
		return nil
	}
	read := bytes.NewReader(file)
	_, err = l.run(context.Background(), readerFunc(func(p []byte) (int, error) {
		if read.Len() < len(file)-100<<10 {
			start()
		}
		return read.Read(p)
	}), 0)
	if err != nil {
		t.Fatal(err)
	}
	wantDisk(t, directory, qcow2Disk(), little)
}

func TestHoles(t *testing.T) {
	file := qcow2File(t, "scattered")
	structure, err := qcow2.Open(bytes.NewReader(file), int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	used := make([]bool, little)
	for e := range structure.Extents() {
		if e.Kind != qcow2.Zero {
			for at := e.GuestOffset; at < e.GuestOffset+e.Length; at++ {
				used[at] = true
			}
		}
	}
	for _, h := range holes(structure, little) {
		for at := h.offset; at < h.offset+h.length; at++ {
			if used[at] {
				t.Fatalf("byte %d is in a hole and in an extent, or in two holes", at)
			}
			used[at] = true
		}
	}
	if at := bytes.IndexByte(boolBytes(used), 0); at >= 0 {
		t.Errorf("byte %d is nowhere", at)
	}
}

func boolBytes(flags []bool) []byte {
	b := make([]byte, len(flags))
	for i, flag := range flags {
		if flag {
			b[i] = 1
		}
	}
	return b
}

// FuzzScatter changes eight bytes of a valid image: whatever comes of that,
// nothing is written outside of the volume and nothing hangs.
func FuzzScatter(f *testing.F) {
	var files [][]byte
	for _, name := range []string{"deflate-4k", "zstd"} {
		files = append(files, qcow2File(f, name))
		f.Add(uint8(len(files)-1), uint32(3*4096), uint64(1<<62))
		f.Add(uint8(len(files)-1), uint32(24), uint64(1<<40))
	}
	f.Fuzz(func(t *testing.T, which uint8, place uint32, value uint64) {
		file := bytes.Clone(files[int(which)%len(files)])
		for i := range 8 {
			file[(int(place)+i)%len(file)] ^= byte(value >> (8 * i))
		}
		directory := t.TempDir()
		if _, err := Fill(context.Background(), Options{Source: rangedServer(file), Target: directory, Size: little}); err != nil {
			return
		}
		if info, err := os.Stat(filepath.Join(directory, "disk.img")); err != nil || info.Size() != little {
			t.Errorf("the disk: %v, %v", info, err)
		}
	})
}
