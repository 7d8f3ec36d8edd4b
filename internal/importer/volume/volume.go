// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package volume

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/directio"
)

// FileName is the disk's file in a directory, as KubeVirt looks for it.
const FileName = "disk.img"

// Options say which volume is written to.
type Options struct {
	// Path is a block device, or a directory that is to hold the disk's file.
	Path string
	// Size of the guest's disk in bytes; 0 means all of a device.
	Size int64
	// Continue keeps what an earlier run has written, if there is anything.
	Continue bool
}

// Volume is what a guest's disk is written to. Its methods may be called from
// several goroutines as long as their ranges do not overlap.
type Volume struct {
	target target
	path   string
	size   int64
	// fresh is true for a file that was just made: it holds zeros.
	fresh     bool
	continued bool
	device    bool
}

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
type file struct{ *directio.File }

// Sync implements target.
func (f file) Sync() error { return f.Datasync() }

func openFile(path string, flags int) (file, error) {
	const mode = 0o660 // The group is that of the pod's volumes.
	opened, err := directio.Open(path, flags, mode)
	return file{opened}, err
}

// Open opens the volume; it fails when the disk does not fit.
func Open(options Options) (*Volume, error) {
	info, err := os.Stat(options.Path)
	switch {
	case err != nil:
		return nil, failure("look at it", err)
	case info.IsDir():
		return openDirectory(options)
	case info.Mode()&fs.ModeDevice != 0 && info.Mode()&fs.ModeCharDevice == 0:
		return openDevice(options)
	}
	return nil, failure("look at it", errors.New("it is neither a block device nor a directory"))
}

func openDevice(options Options) (*Volume, error) {
	opened, err := openFile(options.Path, 0)
	if err != nil {
		return nil, failure("open the device", err)
	}
	size, err := opened.Seek(0, io.SeekEnd)
	if err != nil {
		opened.Close()
		return nil, failure("measure the device", err)
	}
	if size < options.Size {
		opened.Close()
		return nil, tooSmall(size, options.Size)
	}
	return &Volume{target: opened, path: options.Path, size: size, continued: options.Continue, device: true}, nil
}

func openDirectory(options Options) (*Volume, error) {
	if options.Size <= 0 {
		return nil, fmt.Errorf("the size of the disk has to be given for a volume with a file system")
	}
	var system unix.Statfs_t
	if err := directio.Retry(func() error { return unix.Statfs(options.Path, &system) }); err != nil {
		return nil, failure("look at its file system", err)
	}
	// The disk is thin, so only what can never fit is refused here.
	if capacity := int64(system.Blocks) * system.Bsize; capacity < options.Size {
		return nil, tooSmall(capacity, options.Size)
	}
	path := filepath.Join(options.Path, FileName)
	opened, err := openFile(path, os.O_CREATE)
	if err != nil {
		return nil, failure("open "+FileName, err)
	}
	v := &Volume{target: opened, path: path, size: options.Size}
	if err := v.prepareFile(opened, options.Continue); err != nil {
		opened.Close()
		return nil, err
	}
	return v, nil
}

// prepareFile gives the file its length. Only a file that already has it can be
// what an earlier run left.
func (v *Volume) prepareFile(opened file, keep bool) error {
	info, err := opened.Stat()
	switch {
	case err != nil:
		return failure("look at "+FileName, err)
	case !info.Mode().IsRegular():
		return failure("look at "+FileName, errors.New("it is not a regular file"))
	case keep && info.Size() == v.size:
		v.continued = true
		return nil
	}
	for _, length := range []int64{0, v.size} {
		if err := opened.Truncate(length); err != nil {
			return failure(fmt.Sprintf("make %s %d bytes long", FileName, length), err)
		}
	}
	v.fresh = true
	return nil
}

// Path of the device or of the disk's file, for a program that writes to it.
func (v *Volume) Path() string { return v.path }

// Size of the device or of the disk's file in bytes.
func (v *Volume) Size() int64 { return v.size }

// IsDevice is true for a block device, false for a file.
func (v *Volume) IsDevice() bool { return v.device }

// Continued is true if Options asked for what an earlier run has written and it
// may be there.
func (v *Volume) Continued() bool { return v.continued }

// Direct is true if writing past the page cache is possible.
func (v *Volume) Direct() bool {
	f, ok := v.target.(file)
	return ok && f.Direct()
}

// ReadAt implements io.ReaderAt.
func (v *Volume) ReadAt(p []byte, offset int64) (int, error) {
	n, err := v.target.ReadAt(p, offset)
	if err != nil {
		return n, failure(fmt.Sprintf("read at byte %d", offset), err)
	}
	return n, nil
}

// WriteAt implements io.WriterAt.
func (v *Volume) WriteAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > v.size-int64(len(p)) {
		return 0, fmt.Errorf("write %d bytes at %d of a volume of %d", len(p), offset, v.size)
	}
	n, err := v.target.WriteAt(p, offset)
	if err != nil {
		return n, failure(fmt.Sprintf("write at byte %d", offset), err)
	}
	return n, nil
}

// Sync returns when everything that was written is durable. It also tells of
// errors that came up after the write they belong to.
func (v *Volume) Sync() error {
	if err := v.target.Sync(); err != nil {
		return failure("make the writes durable", err)
	}
	return nil
}

// Close closes the volume without making anything durable.
func (v *Volume) Close() error {
	if err := v.target.Close(); err != nil {
		return failure("close it", err)
	}
	return nil
}
