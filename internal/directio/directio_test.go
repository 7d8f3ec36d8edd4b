// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package directio

import (
	"bytes"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestWhatIsWrittenEitherWayIsRead(t *testing.T) {
	for _, tc := range []struct {
		title  string
		memory []byte
		offset int64
	}{
		{"whole pages", Buffer(3 * alignment), alignment},
		{"pages and a rest", Buffer(2*alignment + 100), 0},
		{"less than a page", Buffer(100), 2 * alignment},
		{"in the middle of a page", Buffer(2 * alignment), 10},
		{"memory in the middle of a page", Buffer(2*alignment + 1)[1:], 0},
		{"nothing", nil, 0},
	} {
		t.Run(tc.title, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "file")
			file, err := Open(path, os.O_CREATE, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer file.Close()
			for i := range tc.memory {
				tc.memory[i] = byte(i*7 + 1)
			}
			if n, err := file.WriteAt(tc.memory, tc.offset); err != nil || n != len(tc.memory) {
				t.Fatal(n, err)
			}
			if err := file.Datasync(); err != nil {
				t.Fatal(err)
			}
			got, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			want := tc.memory
			if len(want) > 0 {
				want = append(make([]byte, tc.offset), want...)
			}
			if !bytes.Equal(got, want) {
				t.Errorf("the file holds other bytes (%d)", len(got))
			}
			read := Buffer(len(tc.memory))
			if n, err := file.ReadAt(read, tc.offset); err != nil || n != len(read) || !bytes.Equal(read, tc.memory) {
				t.Errorf("read %d bytes, %v", n, err)
			}
		})
	}
}

// Who can put a link in the place of a file must not decide what is written to.
func TestLinksAreNotFollowed(t *testing.T) {
	directory := t.TempDir()
	other, link := filepath.Join(directory, "other"), filepath.Join(directory, "link")
	if err := os.WriteFile(other, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(other, link); err != nil {
		t.Fatal(err)
	}
	if file, err := Open(link, os.O_TRUNC, 0o600); err == nil {
		file.Close()
		t.Error("the link was followed")
	}
}

func TestRetryOutlastsSignals(t *testing.T) {
	calls := 0
	err := Retry(func() error {
		if calls++; calls < 3 {
			return &os.SyscallError{Syscall: "fsync", Err: syscall.EINTR}
		}
		return syscall.EIO
	})
	if calls != 3 || err != syscall.EIO { //nolint:errorlint // Exactly this error comes back.
		t.Errorf("%d calls, %v", calls, err)
	}
}

func TestBuffersBeginWithAPage(t *testing.T) {
	for _, size := range []int{1, 100, alignment, alignment + 1, 1 << 20} {
		if b := Buffer(size); len(b) != size || cap(b) != size || !aligned(b) {
			t.Errorf("%d bytes: %d of %d", size, len(b), cap(b))
		}
	}
}
