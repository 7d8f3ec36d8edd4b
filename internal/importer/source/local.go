// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync/atomic"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// localFile is the name of a disk on a volume with a file system.
const localFile = "disk.img"

// Local is a disk on a volume of the pod: a block device, or the file disk.img
// in a directory.
type Local struct {
	path string
}

// NewLocal reads the block device, the file or the directory's disk.img.
func NewLocal(path string) *Local { return &Local{path: path} }

// String is the path.
func (l *Local) String() string { return l.path }

// Path is the device or the file that holds the disk.
func (l *Local) Path() string {
	if info, err := os.Stat(l.path); err == nil && info.IsDir() {
		return filepath.Join(l.path, localFile)
	}
	return l.path
}

// Open implements Source.
func (l *Local) Open(ctx context.Context) (Stream, error) {
	opened, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// OpenAt implements Resumable.
func (l *Local) OpenAt(ctx context.Context, offset int64, validator string) (Stream, error) {
	opened, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	if opened.validator != validator || offset > opened.size {
		opened.Close()
		return nil, &ChangedError{Why: "the volume is another than the one that was begun"}
	}
	if _, err := opened.file.Seek(offset, io.SeekStart); err != nil {
		opened.Close()
		return nil, l.failure(err)
	}
	return opened, nil
}

// OpenRanged implements Ranged.
func (l *Local) OpenRanged(ctx context.Context) (ReaderAt, error) {
	opened, err := l.open(ctx)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (l *Local) open(ctx context.Context) (*localDisk, error) {
	file, err := os.Open(l.Path())
	if err != nil {
		return nil, l.failure(err)
	}
	disk, err := describe(file)
	if err != nil {
		file.Close()
		return nil, l.failure(err)
	}
	disk.ctx, disk.local = ctx, l
	return disk, nil
}

// describe finds out how large a device or a file is. Of a device nothing tells
// whether it was written to: whoever orders the import keeps it unused.
func describe(file *os.File) (*localDisk, error) {
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return &localDisk{file: file, size: info.Size(), validator: fmt.Sprintf("file-%d-%d", info.Size(), info.ModTime().UnixNano())}, nil
	case mode&fs.ModeDevice == 0 || mode&fs.ModeCharDevice != 0:
		return nil, errors.New("it is neither a file nor a block device")
	}
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	return &localDisk{file: file, size: size, validator: fmt.Sprintf("device-%d", size)}, nil
}

// failure is never permanent: it is the volume, not what the user wrote.
func (l *Local) failure(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return &Error{Reason: report.SourceNotFound, Message: fmt.Sprintf("the volume holds no disk: %v", err)}
	}
	return &Error{Reason: report.SourceUnreachable, Message: fmt.Sprintf("the volume cannot be read: %v", err)}
}

// localDisk is both a Stream and a ReaderAt.
type localDisk struct {
	ctx       context.Context
	local     *Local
	file      *os.File
	size      int64
	validator string
	received  atomic.Int64
}

// Size implements Stream.
func (d *localDisk) Size() int64 { return d.size }

// Validator implements Stream.
func (d *localDisk) Validator() string { return d.validator }

// Received implements Stream.
func (d *localDisk) Received() int64 { return d.received.Load() }

// Close implements io.Closer.
func (d *localDisk) Close() error { return d.file.Close() }

// Read implements io.Reader.
func (d *localDisk) Read(p []byte) (int, error) {
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := d.file.Read(p)
	return n, d.count(n, err)
}

// ReadAt implements io.ReaderAt.
func (d *localDisk) ReadAt(p []byte, offset int64) (int, error) {
	if err := d.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := d.file.ReadAt(p, offset)
	return n, d.count(n, err)
}

func (d *localDisk) count(n int, err error) error {
	d.received.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		return d.local.failure(err)
	}
	return err
}
