// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// alignment suits every device that writes past the page cache, and is the size
// of a page: a page is written either past the cache or through it, never both.
const alignment = 4096

// target is what a volume needs of an open device or file.
type target interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Punch makes a range zero without writing it. It fails with EOPNOTSUPP
	// where that does not exist.
	Punch(offset, length int64) error
	Sync() error
}

// file is a target of the operating system.
type file struct {
	*os.File
	// direct reads and writes past the page cache; nil where that is not possible.
	direct *os.File
}

// openFile opens path for reading and writing in both ways.
func openFile(path string, flags int) (*file, error) {
	const mode = 0o660 // The group is that of the pod's volumes.
	buffered, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW|flags, mode)
	if err != nil {
		return nil, err
	}
	// Not every file system can; the cache does as well then.
	direct, err := os.OpenFile(path, os.O_RDWR|unix.O_DIRECT|unix.O_NOFOLLOW, 0)
	if err != nil {
		direct = nil
	}
	return &file{File: buffered, direct: direct}, nil
}

// WriteAt implements io.WriterAt. Whole pages go past the cache if their memory
// is aligned, too; see Buffer.
func (f *file) WriteAt(p []byte, offset int64) (int, error) {
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
func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	if f.direct == nil || len(p)%alignment != 0 || offset%alignment != 0 || !aligned(p) {
		return f.File.ReadAt(p, offset)
	}
	n, err := f.direct.ReadAt(p, offset)
	if errors.Is(err, unix.EINVAL) {
		return f.File.ReadAt(p, offset)
	}
	return n, err
}

// Punch implements target. On a device this never falls back to writing.
func (f *file) Punch(offset, length int64) error {
	return retry(func() error {
		return unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, length)
	})
}

// Sync implements target. Both descriptors are the same file to the kernel.
func (f *file) Sync() error {
	return retry(func() error { return unix.Fdatasync(int(f.Fd())) })
}

// Close implements io.Closer.
func (f *file) Close() error {
	err := f.File.Close()
	if f.direct != nil {
		err = errors.Join(err, f.direct.Close())
	}
	return err
}

// retry repeats a call that a signal interrupted; the runtime sends itself many.
func retry(call func() error) error {
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
