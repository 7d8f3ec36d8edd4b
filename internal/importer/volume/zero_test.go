// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// memory is a device that somebody has used before.
type memory struct {
	content []byte
	// punch is what deallocation answers; nil if the device can.
	punch error
	// broken is what every other call answers.
	broken  error
	punches []string
	written int
}

func (m *memory) ReadAt(p []byte, offset int64) (int, error) {
	if m.broken != nil {
		return 0, m.broken
	}
	n := copy(p, m.content[offset:])
	if n < len(p) {
		return n, io.ErrUnexpectedEOF
	}
	return n, nil
}

func (m *memory) WriteAt(p []byte, offset int64) (int, error) {
	if m.broken != nil {
		return 0, m.broken
	}
	m.written += len(p)
	return copy(m.content[offset:], p), nil
}

func (m *memory) Punch(offset, length int64) error {
	if m.punch != nil {
		return m.punch
	}
	m.punches = append(m.punches, fmt.Sprintf("%d+%d", offset, length))
	if m.content != nil {
		clear(m.content[offset : offset+length])
	}
	return nil
}

func (m *memory) Sync() error  { return m.broken }
func (m *memory) Close() error { return m.broken }

func used(size int) []byte { return bytes.Repeat([]byte{0xa5}, size) }

func TestBlankDeallocatesInSteps(t *testing.T) {
	m := &memory{}
	v := &Volume{target: m, size: 5<<29 + 512}
	if done, err := v.Blank(context.Background()); !done || err != nil {
		t.Fatalf("%t, %v", done, err)
	}
	if got, want := fmt.Sprint(m.punches), "[0+1073741824 1073741824+1073741824 2147483648+536871424]"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestBlankOfANewFileDoesNothing(t *testing.T) {
	v := open(t, Options{Path: t.TempDir(), Size: 4096})
	v.target = &memory{punch: unix.EIO}
	if done, err := v.Blank(context.Background()); !done || err != nil {
		t.Errorf("%t, %v", done, err)
	}
}

func TestBlankWhereItCannotBeCheap(t *testing.T) {
	for _, cause := range []error{unix.EOPNOTSUPP, unix.ENOSYS, unix.ENODEV, unix.EINVAL} {
		v := &Volume{target: &memory{content: used(4096), punch: cause}, size: 4096}
		if done, err := v.Blank(context.Background()); done || err != nil {
			t.Errorf("%v: %t, %v", cause, done, err)
		}
	}
	v := &Volume{target: &memory{punch: unix.EIO}, size: 4096}
	_, err := v.Blank(context.Background())
	wantFailure(t, err, report.VolumeFailed, "deallocate at byte 0", "input/output error")
}

func TestZeroingEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	v := &Volume{target: &memory{content: used(4096)}, size: 4096}
	if _, err := v.Blank(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := v.Zero(ctx, 0, 4096); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestZero(t *testing.T) {
	const size = 4<<20 + 700
	for _, tc := range []struct{ offset, length int64 }{
		{0, size}, {0, 0}, {0, 1}, {1, size - 1}, {700, 3 << 20}, {1 << 20, 1 << 20}, {size - 1, 1}, {1<<20 - 1, 2},
	} {
		m := &memory{content: used(size)}
		v := &Volume{target: m, size: size}
		if err := v.Zero(context.Background(), tc.offset, tc.length); err != nil {
			t.Fatalf("%+v: %v", tc, err)
		}
		want := used(size)
		clear(want[tc.offset : tc.offset+tc.length])
		if !bytes.Equal(m.content, want) {
			t.Errorf("%+v: other bytes are zero", tc)
		}
	}
}

// A thin volume must not grow because of zeros that it has anyway.
func TestZeroWritesOnlyWhereSomethingIs(t *testing.T) {
	m := &memory{content: make([]byte, 8<<20)}
	m.content[5<<20+17] = 1
	v := &Volume{target: m, size: 8 << 20}
	if err := v.Zero(context.Background(), 0, 8<<20); err != nil {
		t.Fatal(err)
	}
	if m.written != 1<<20 || !IsZero(m.content) {
		t.Errorf("%d bytes written", m.written)
	}
}

func TestIsZero(t *testing.T) {
	for _, length := range []int{0, 1, 4096, 1<<20 - 1, 1 << 20, 1<<20 + 1, 3<<20 + 5} {
		p := make([]byte, length)
		if !IsZero(p) {
			t.Errorf("%d zeros are not zero", length)
		}
		for _, at := range []int{0, length / 2, length - 1} {
			if at < 0 || length == 0 {
				continue
			}
			p[at] = 1
			if IsZero(p) {
				t.Errorf("%d bytes with one at %d are zero", length, at)
			}
			p[at] = 0
		}
	}
}

func TestErrorsHaveReasons(t *testing.T) {
	for _, tc := range []struct {
		cause   error
		reason  report.Reason
		message string
	}{
		{&fs.PathError{Op: "write", Path: "/target/disk.img", Err: unix.ENOSPC}, report.VolumeFull, "write at byte 512: no space left on device"},
		{unix.EDQUOT, report.VolumeFull, "quota"},
		{unix.EIO, report.VolumeFailed, "CSI driver"},
		{&fs.PathError{Op: "write", Path: "/target/disk.img", Err: unix.EROFS}, report.VolumeFailed, "writable for the importer's user"},
		{os.ErrPermission, report.VolumeFailed, "writable for the importer's user"},
		{unix.ENXIO, report.VolumeFailed, "no such device"},
	} {
		v := &Volume{target: &memory{broken: tc.cause, content: used(4096)}, size: 4096}
		_, err := v.WriteAt(make([]byte, 512), 512)
		wantFailure(t, err, tc.reason, tc.message)
		var failure *report.Failure
		if errors.As(err, &failure) && failure.Permanent {
			t.Errorf("%v is taken for permanent", tc.cause)
		}
		if strings.Contains(err.Error(), "/target") {
			t.Errorf("%q shows a path of the importer's", err)
		}
		wantFailure(t, v.Sync(), tc.reason, "durable")
		wantFailure(t, v.Zero(context.Background(), 0, 512), tc.reason, "read at byte 0")
		wantFailure(t, v.Close(), tc.reason)
	}
}
