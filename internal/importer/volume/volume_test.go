// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/deckhouse/virtualization/internal/directio"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

func open(t *testing.T, options Options) *Volume {
	t.Helper()
	v, err := Open(options)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}

func content(t *testing.T, path string) []byte {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// wantFailure verifies the reason and that the message holds every piece.
func wantFailure(t *testing.T, err error, reason report.Reason, pieces ...string) {
	t.Helper()
	var failure *report.Failure
	if !errors.As(err, &failure) || failure.Reason != reason {
		t.Fatalf("got %v, want %s", err, reason)
	}
	for _, piece := range pieces {
		if !strings.Contains(failure.Message, piece) {
			t.Errorf("%q does not mention %q", failure.Message, piece)
		}
	}
}

func TestDirectoryGetsTheDisksFile(t *testing.T) {
	directory := t.TempDir()
	v := open(t, Options{Path: directory, Size: 3<<20 + 512})
	if v.Size() != 3<<20+512 || v.Continued() || v.Path() != filepath.Join(directory, "disk.img") {
		t.Errorf("size %d, continued %t, path %s", v.Size(), v.Continued(), v.Path())
	}
	piece := directio.Buffer(1 << 20)
	for i := range piece {
		piece[i] = byte(i)
	}
	if n, err := v.WriteAt(piece, 1<<20); n != 1<<20 || err != nil {
		t.Fatalf("%d, %v", n, err)
	}
	if err := v.Sync(); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, 3<<20+512)
	copy(want[1<<20:], piece)
	if got := content(t, v.Path()); !bytes.Equal(got, want) {
		t.Errorf("the file holds other bytes (%d)", len(got))
	}
	info, err := os.Stat(v.Path())
	if err != nil {
		t.Fatal(err)
	}
	if used := info.Sys().(*syscall.Stat_t).Blocks * 512; used > 2<<20 {
		t.Errorf("the file takes %d bytes", used)
	}
}

// Whatever its length and place, every write arrives as it is: past the cache,
// through it, or in two parts.
func TestWritesOfAnyAlignment(t *testing.T) {
	const size = 1 << 20
	v := open(t, Options{Path: t.TempDir(), Size: size})
	want := make([]byte, size)
	memory := directio.Buffer(64 << 10)
	for i := range memory {
		memory[i] = byte(i*7 + 1)
	}
	for _, tc := range []struct{ skip, length, offset int }{
		{0, 4096, 0}, {0, 64 << 10, 8192}, {0, 4097, 81920}, {0, 512, 90112}, {1, 4096, 98304}, {512, 8192, 106496},
		{0, 4096, 122881}, {0, 0, 5}, {0, 5000, size - 5000}, {0, 100, 127000}, {0, 4096 + 512, 135168},
	} {
		p := memory[tc.skip : tc.skip+tc.length]
		if n, err := v.WriteAt(p, int64(tc.offset)); n != tc.length || err != nil {
			t.Fatalf("%+v: %d, %v", tc, n, err)
		}
		copy(want[tc.offset:], p)
	}
	if !bytes.Equal(content(t, v.Path()), want) {
		t.Error("the file holds other bytes")
	}
}

func TestWritesStayInside(t *testing.T) {
	v := open(t, Options{Path: t.TempDir(), Size: 4096})
	for _, tc := range []struct{ length, offset int64 }{{1, 4096}, {4097, 0}, {1, -1}, {2, 4095}, {1, 1 << 62}} {
		if n, err := v.WriteAt(make([]byte, tc.length), tc.offset); n != 0 || err == nil {
			t.Errorf("%+v: %d, %v", tc, n, err)
		}
		if err := v.Zero(context.Background(), tc.offset, tc.length); err == nil {
			t.Errorf("%+v: zeroed", tc)
		}
	}
	if got := len(content(t, v.Path())); got != 4096 {
		t.Errorf("the file has %d bytes", got)
	}
}

func TestContinue(t *testing.T) {
	for _, tc := range []struct {
		title     string
		size      int64
		keep      bool
		want      string
		continued bool
	}{
		{"keeps the same disk", 8192, true, "old", true},
		{"begins anew when not asked to", 8192, false, "\x00\x00\x00", false},
		{"begins anew when the size differs", 12288, true, "\x00\x00\x00", false},
	} {
		t.Run(tc.title, func(t *testing.T) {
			directory := t.TempDir()
			first := open(t, Options{Path: directory, Size: 8192})
			if _, err := first.WriteAt([]byte("old"), 0); err != nil {
				t.Fatal(err)
			}
			v := open(t, Options{Path: directory, Size: tc.size, Continue: tc.keep})
			if v.Continued() != tc.continued || v.Size() != tc.size {
				t.Errorf("continued %t, size %d", v.Continued(), v.Size())
			}
			got := content(t, v.Path())
			if string(got[:3]) != tc.want || int64(len(got)) != tc.size {
				t.Errorf("got %q, %d bytes", got[:3], len(got))
			}
		})
	}
}

func TestOpenRefuses(t *testing.T) {
	directory := t.TempDir()
	file := filepath.Join(directory, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	linked, taken := t.TempDir(), t.TempDir()
	if err := os.Symlink(file, filepath.Join(linked, "disk.img")); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(taken, "disk.img"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		title   string
		options Options
		reason  report.Reason
		message string
	}{
		{"nothing there", Options{Path: directory + "/none", Size: 1}, report.VolumeFailed, "no such file"},
		{"a plain file", Options{Path: file, Size: 1}, report.VolumeFailed, "neither a block device nor a directory"},
		{"a character device", Options{Path: "/dev/null", Size: 1}, report.VolumeFailed, "neither a block device nor a directory"},
		{"larger than the file system", Options{Path: directory, Size: 1 << 60}, report.VolumeTooSmall, "but the disk has 1152921504606846976"},
		{"a link where the disk belongs", Options{Path: linked, Size: 1}, report.VolumeFailed, "symbolic links"},
		{"a directory where the disk belongs", Options{Path: taken, Size: 1}, report.VolumeFailed, "directory"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			_, err := Open(tc.options)
			wantFailure(t, err, tc.reason, tc.message)
		})
	}
	if _, err := Open(Options{Path: directory}); err == nil {
		t.Error("a disk without a size was accepted")
	}
}

func TestTooSmallShowsTheArithmetic(t *testing.T) {
	err := tooSmall(1<<30, 3<<30)
	wantFailure(t, err, report.VolumeTooSmall, "1073741824", "3221225472", "2147483648 are missing")
	var failure *report.Failure
	if !errors.As(err, &failure) || !failure.Permanent {
		t.Error("trying again would help?")
	}
}
