// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/image/qcow2"
)

const (
	// scanBlock is what is read of a volume at once, by scanReaders at a time.
	scanBlock   = 4 << 20
	scanReaders = 3
)

// Sparse is a disk on a volume as a qcow2 image that holds only what is not zero.
// An optical disc stays as it is: a machine could not tell it from a disk else.
//
// Whatever a guest has written to the beginning of its disk, the disk is taken
// for raw. So no guest can make its disk pass for an image of another format.
type Sparse struct {
	local *Local
}

// NewSparse packs the disk of the volume.
func NewSparse(local *Local) *Sparse { return &Sparse{local: local} }

// String is the volume's path.
func (s *Sparse) String() string { return s.local.String() }

// Open implements Source.
func (s *Sparse) Open(ctx context.Context) (Stream, error) {
	opened, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// OpenAt implements Resumable. The volume is looked through again, which needs
// no network.
func (s *Sparse) OpenAt(ctx context.Context, offset int64, validator string) (Stream, error) {
	opened, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	if opened.validator != validator || offset > opened.size {
		opened.Close()
		return nil, &ChangedError{Why: "the volume was written to"}
	}
	opened.reader = io.NewSectionReader(opened.file, offset, opened.size-offset)
	return opened, nil
}

func (s *Sparse) open(ctx context.Context) (*sparseStream, error) {
	disk, err := s.local.open(ctx)
	if err != nil {
		return nil, err
	}
	opened, err := pack(ctx, disk)
	if err != nil {
		disk.Close()
		return nil, err
	}
	return opened, nil
}

// pack plans the image of a disk.
func pack(ctx context.Context, disk *localDisk) (*sparseStream, error) {
	head := make([]byte, min(image.HeadSize, disk.size))
	if _, err := io.ReadFull(io.NewSectionReader(disk, 0, disk.size), head); err != nil {
		return nil, err
	}
	s := &sparseStream{localDisk: disk, file: disk, size: disk.size, validator: disk.validator}
	if info, err := image.Inspect(head, disk.size); err != nil || info.Format != image.FormatISO {
		if err := s.plan(ctx); err != nil {
			return nil, err
		}
	}
	s.reader = io.NewSectionReader(s.file, 0, s.size)
	return s, nil
}

// sparseStream is a packed disk.
type sparseStream struct {
	*localDisk
	file      io.ReaderAt
	size      int64
	validator string
	reader    io.Reader
}

// Size implements Stream.
func (s *sparseStream) Size() int64 { return s.size }

// Validator implements Stream: it covers which parts of the disk are in use.
func (s *sparseStream) Validator() string { return s.validator }

// Read implements io.Reader.
func (s *sparseStream) Read(p []byte) (int, error) { return s.reader.Read(p) }

func (s *sparseStream) plan(ctx context.Context) error {
	cluster := qcow2.ClusterSizeFor(s.localDisk.size)
	allocation, err := qcow2.NewAllocation(s.localDisk.size, cluster)
	if err != nil {
		return s.local.failure(err)
	}
	if err := scan(ctx, s.localDisk, cluster, allocation); err != nil {
		return err
	}
	writer, err := qcow2.NewWriter(allocation)
	if err != nil {
		return s.local.failure(err)
	}
	s.file, s.size = writer.File(s.localDisk), writer.Size()
	tables := sha256.New()
	if _, err := io.Copy(tables, io.NewSectionReader(s.file, 0, s.size-allocation.Bytes())); err != nil {
		return err
	}
	s.validator = fmt.Sprintf("%s-%x", s.localDisk.validator, tables.Sum(nil)[:16])
	return nil
}

// scan marks the clusters that hold something else than zeros.
func scan(ctx context.Context, disk *localDisk, cluster int64, allocation *qcow2.Allocation) error {
	var mu sync.Mutex
	next := int64(0)
	take := func() (int64, bool) {
		mu.Lock()
		defer mu.Unlock()
		at := nextData(disk.file, next, disk.size)
		next = at + scanBlock
		return at, at < disk.size
	}
	mark := func(offset, length int64) {
		mu.Lock()
		defer mu.Unlock()
		allocation.Mark(offset, length)
	}
	readers, ctx := errgroup.WithContext(ctx)
	for range scanReaders {
		readers.Go(func() error {
			buffer, zeros := make([]byte, scanBlock), make([]byte, cluster)
			for at, more := take(); more; at, more = take() {
				if err := ctx.Err(); err != nil {
					return err
				}
				n, err := disk.ReadAt(buffer, at)
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
				markUsed(buffer[:n], zeros, at, mark)
			}
			return nil
		})
	}
	return readers.Wait()
}

// markUsed marks runs of clusters.
func markUsed(content, zeros []byte, at int64, mark func(offset, length int64)) {
	begin := -1
	for i := 0; i < len(content); i += len(zeros) {
		part := content[i:min(i+len(zeros), len(content))]
		switch empty := bytes.Equal(part, zeros[:len(part)]); {
		case empty && begin >= 0:
			mark(at+int64(begin), int64(i-begin))
			begin = -1
		case !empty && begin < 0:
			begin = i
		}
	}
	if begin >= 0 {
		mark(at+int64(begin), int64(len(content)-begin))
	}
}

// nextData skips holes of a file. A device has none that it would tell of.
func nextData(file *os.File, from, size int64) int64 {
	if from >= size {
		return size
	}
	at, err := unix.Seek(int(file.Fd()), from, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return size
	case err != nil || at < from:
		return from
	}
	return at / scanBlock * scanBlock
}
