// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/directio"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// loopDevice makes a block device of a file's content.
func loopDevice(t *testing.T, content []byte) string {
	t.Helper()
	backing := filepath.Join(t.TempDir(), "backing")
	if err := os.WriteFile(backing, content, 0o600); err != nil {
		t.Fatal(err)
	}
	file, err := os.OpenFile(backing, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer control.Close()
	// Somebody else may take the number that is free now.
	for range 10 {
		number, err := unix.IoctlRetInt(int(control.Fd()), unix.LOOP_CTL_GET_FREE)
		if err != nil {
			t.Fatal(err)
		}
		path := fmt.Sprintf("/dev/loop%d", number)
		device, err := os.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			t.Fatal(err)
		}
		if err = unix.IoctlLoopConfigure(int(device.Fd()), &unix.LoopConfig{Fd: uint32(file.Fd())}); err != nil {
			device.Close()
			continue
		}
		t.Cleanup(func() {
			_ = unix.IoctlSetInt(int(device.Fd()), unix.LOOP_CLR_FD, 0)
			device.Close()
		})
		return path
	}
	t.Fatal("no loop device is free")
	return ""
}

// A device that somebody used before becomes blank, then holds what is written,
// some of it past the cache and some not.
func TestDevice(t *testing.T) {
	const size = 8 << 20
	path := loopDevice(t, used(size))
	v := open(t, Options{Path: path, Size: 5 << 20})
	if v.Size() != size || v.Path() != path || v.Continued() {
		t.Errorf("size %d, path %s, continued %t", v.Size(), v.Path(), v.Continued())
	}
	blank, err := v.Blank(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if !blank {
		// The file system behind the device knows no holes.
		if err := v.Zero(context.Background(), 0, size); err != nil {
			t.Fatal(err)
		}
	}
	piece := directio.Buffer(1<<20 + 512)
	copy(piece, used(len(piece)))
	want := make([]byte, size)
	for _, offset := range []int64{1 << 20, 6<<20 + 512} {
		if _, err := v.WriteAt(piece, offset); err != nil {
			t.Fatal(err)
		}
		copy(want[offset:], piece)
	}
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(content(t, path), want) {
		t.Error("the device holds other bytes")
	}
	if again := open(t, Options{Path: path, Continue: true}); !again.Continued() || again.Size() != size {
		t.Errorf("continued %t, size %d", again.Continued(), again.Size())
	}
}

func TestDeviceTooSmall(t *testing.T) {
	_, err := Open(Options{Path: loopDevice(t, used(1<<20)), Size: 1<<20 + 512})
	wantFailure(t, err, report.VolumeTooSmall, "the volume has 1048576 bytes, but the disk has 1049088: 512 are missing")
}

// A file system too small for the bytes tells it at the write.
func TestFullFileSystem(t *testing.T) {
	directory := t.TempDir()
	if err := unix.Mount("tmpfs", directory, "tmpfs", 0, "size=1m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Unmount(directory, 0) })
	if err := os.WriteFile(filepath.Join(directory, "other"), used(512<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	v := open(t, Options{Path: directory, Size: 1 << 20})
	_, err := v.WriteAt(directio.Buffer(1<<20), 0)
	wantFailure(t, err, report.VolumeFull, "no space left", "storage class")
	v.Close()
}
