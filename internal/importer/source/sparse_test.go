// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/image/qcow2"
)

// sparseDir holds a disk of the size with the parts written.
func sparseDir(t *testing.T, size int64, parts map[int64]string) string {
	t.Helper()
	dir := t.TempDir()
	file, err := os.Create(filepath.Join(dir, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	if err := file.Truncate(size); err != nil {
		t.Fatal(err)
	}
	for offset, content := range parts {
		if _, err := file.WriteAt([]byte(content), offset); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// unpack reads a qcow2 image back.
func unpack(t *testing.T, packed []byte) []byte {
	t.Helper()
	opened, err := qcow2.Open(bytes.NewReader(packed), int64(len(packed)))
	if err != nil {
		t.Fatal(err)
	}
	disk := make([]byte, opened.VirtualSize())
	for extent := range opened.Extents() {
		if extent.Kind == qcow2.Data {
			copy(disk[extent.GuestOffset:], packed[extent.HostOffset:extent.HostOffset+extent.Length])
		}
	}
	return disk
}

func TestVolumeAsASparseImage(t *testing.T) {
	const size = 100<<20 + 512
	for title, parts := range map[string]map[int64]string{
		"blank":           {},
		"scattered":       {0: "boot", 1<<20 + 3: "a", 65535: "across a border", 40 << 20: "middle", size - 1: "z"},
		"qcow2 in it":     {0: "QFI\xfb\x00\x00\x00\x03", 50 << 20: "x"},
		"zeros that take": {10 << 20: string(make([]byte, 1<<20)), 20 << 20: "x"},
	} {
		t.Run(title, func(t *testing.T) {
			source := NewSparse(NewLocal(sparseDir(t, size, parts)))
			stream, err := source.Open(context.Background())
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			packed, err := io.ReadAll(stream)
			if err != nil || int64(len(packed)) != stream.Size() || len(packed) > 2<<20 {
				t.Fatalf("%d bytes of %d, %v", len(packed), stream.Size(), err)
			}
			info, err := image.InspectAt(bytes.NewReader(packed), int64(len(packed)))
			if err != nil || info.Format != image.FormatQCOW2 || info.VirtualSize != size {
				t.Fatalf("%+v, %v", info, err)
			}
			want := make([]byte, size)
			for offset, content := range parts {
				copy(want[offset:], content)
			}
			if !bytes.Equal(unpack(t, packed), want) {
				t.Error("another disk")
			}
			for _, offset := range []int64{0, 1, 70_000, stream.Size()} {
				rest, err := source.OpenAt(context.Background(), offset, stream.Validator())
				if err != nil {
					t.Fatal(err)
				}
				if got, err := io.ReadAll(rest); err != nil || !bytes.Equal(got, packed[offset:]) {
					t.Errorf("from %d: %d bytes, %v", offset, len(got), err)
				}
				rest.Close()
			}
		})
	}
}

func TestOpticalDiscOnAVolumeStaysOne(t *testing.T) {
	parts := map[int64]string{32768: "\x01CD001\x01", 60000: "content"}
	stream, err := NewSparse(NewLocal(sparseDir(t, 1<<20, parts))).Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	content, err := io.ReadAll(stream)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := image.Inspect(content, int64(len(content))); err != nil || info.Format != image.FormatISO || len(content) != 1<<20 {
		t.Errorf("%+v of %d bytes, %v", info, len(content), err)
	}
}

func TestVolumeThatIsWrittenToMeanwhile(t *testing.T) {
	dir := sparseDir(t, 10<<20, map[int64]string{0: "x"})
	source := NewSparse(NewLocal(dir))
	stream, err := source.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	stream.Close()
	before, err := os.Stat(filepath.Join(dir, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(filepath.Join(dir, "disk.img"), os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := file.WriteAt([]byte("y"), 5<<20); err != nil {
		t.Fatal(err)
	}
	file.Close()
	// As on a device, which has no time of its last change.
	if err := os.Chtimes(filepath.Join(dir, "disk.img"), before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	var changed *ChangedError
	if _, err := source.OpenAt(context.Background(), 0, stream.Validator()); !errors.As(err, &changed) {
		t.Errorf("got %v", err)
	}
	if _, err := NewSparse(NewLocal(t.TempDir())).Open(context.Background()); err == nil {
		t.Error("a volume without a disk is packed")
	}
}

func TestScanEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := NewSparse(NewLocal(sparseDir(t, 10<<20, map[int64]string{0: "x"}))).Open(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
