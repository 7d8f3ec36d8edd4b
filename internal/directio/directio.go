// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package directio reads and writes files and devices past the page cache: what
// passes once, and is larger than memory, only pushes out what others need, and
// costs processor time to copy there.
package directio

import (
	"errors"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alignment suits every device that writes past the page cache, and is the size
// of a page: a page is written either past the cache or through it, never both.
const alignment = 4096

// File is an open file or device.
type File struct {
	*os.File
	// direct reads and writes past the page cache; nil where that is not possible.
	direct *os.File
}

// Open opens path for reading and writing in both ways. The last element of the path
// is no symbolic link.
func Open(path string, flags int, mode os.FileMode) (*File, error) {
	buffered, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|flags, mode)
	if err != nil {
		return nil, err
	}
	// Not every file system can; the cache does as well then.
	direct, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT|unix.O_NOFOLLOW, 0)
	if err != nil {
		direct = nil
	}
	return &File{File: buffered, direct: direct}, nil
}

// WriteAt implements io.WriterAt. Whole pages go past the cache if their memory
// is aligned, too; see Buffer.
func (f *File) WriteAt(p []byte, offset int64) (int, error) {
	whole := len(p) &^ (alignment - 1)
	if f.direct == nil || whole == 0 || offset%alignment != 0 || !aligned(p) {
		return f.File.WriteAt(p, offset)
	}
	n, err := f.direct.WriteAt(p[:whole], offset)
	if errors.Is(err, unix.EINVAL) {
		// The device has larger sectors than that, or the file system changed its mind.
		n, err = f.File.WriteAt(p[:whole], offset)
	}
	if err != nil || whole == len(p) {
		return n, err
	}
	rest, err := f.File.WriteAt(p[whole:], offset+int64(whole))
	return n + rest, err
}

// ReadAt implements io.ReaderAt, past the cache on the same terms.
func (f *File) ReadAt(p []byte, offset int64) (int, error) {
	if f.direct == nil || len(p)%alignment != 0 || offset%alignment != 0 || !aligned(p) {
		return f.File.ReadAt(p, offset)
	}
	n, err := f.direct.ReadAt(p, offset)
	if errors.Is(err, unix.EINVAL) {
		return f.File.ReadAt(p, offset)
	}
	return n, err
}

// Punch makes a range zero without writing it. It fails with EOPNOTSUPP where that
// does not exist: it never falls back to writing.
func (f *File) Punch(offset, length int64) error {
	return Retry(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	})
}

// Datasync returns when the content is durable. Both descriptors are the same file to
// the kernel.
func (f *File) Datasync() error {
	return Retry(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// Direct is true if writing past the page cache is possible.
func (f *File) Direct() bool { return f.direct != nil }

// Close implements io.Closer.
func (f *File) Close() error {
	err := f.File.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	return err
}

// Retry repeats a call that a signal interrupted; the runtime sends itself many.
func Retry(call func() error) error {
	for {
		if err := call(); !errors.Is(err, syscall.EINTR) {
			return err
		}
	}
}

func aligned(p []byte) bool {
	return uintptr(unsafe.Pointer(unsafe.SliceData(p)))%alignment == 0
}

// Buffer makes a buffer whose content can be written past the page cache.
func Buffer(size int) []byte {
	b := make([]byte, size+alignment)
	skip := 0
	if rest := uintptr(unsafe.Pointer(unsafe.SliceData(b))) % alignment; rest != 0 {
		skip = alignment - int(rest)
	}
	return b[skip : skip+size : skip+size]
}
