// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"errors"
	"fmt"
	"io"
)

// File returns the image of a disk, to be read in any order and at the same
// time. Wrapped into an io.SectionReader it is a stream of Size bytes.
func (w *Writer) File(disk io.ReaderAt) io.ReaderAt { return &file{writer: w, disk: disk} }

type file struct {
	writer *Writer
	disk   io.ReaderAt
}

// ReadAt implements io.ReaderAt.
func (f *file) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, fmt.Errorf("a file has no byte %d", offset)
	}
	done := 0
	for done < len(p) && offset < f.writer.Size() {
		n, err := f.readPart(p[done:], offset)
		done += n
		if err != nil {
			return done, err
		}
		offset += int64(n)
	}
	if done < len(p) {
		return done, io.EOF
	}
	return done, nil
}

// readPart reads as much as can be read at once.
func (f *file) readPart(p []byte, offset int64) (int, error) {
	size := f.writer.cluster()
	cluster, within := offset/size, offset%size
	if cluster >= f.writer.data {
		return f.readData(p, cluster-f.writer.data, within)
	}
	if within == 0 && int64(len(p)) >= size {
		f.writer.fillMetadata(p[:size], cluster)
		return int(size), nil
	}
	whole := make([]byte, size)
	f.writer.fillMetadata(whole, cluster)
	return copy(p, whole[within:]), nil
}

// readData reads a data cluster from the disk together with those behind it that
// are neighbours there, too.
func (f *file) readData(p []byte, data, within int64) (int, error) {
	allocation, size := f.writer.allocation, f.writer.cluster()
	first := f.writer.guestCluster(data)
	end := first + 1
	for (end-first)*size < within+int64(len(p)) && allocation.marked(end) {
		end++
	}
	length := min(int64(len(p)), (end-first)*size-within)
	begin := first*size + within
	// The last cluster may be longer than what is left of the disk.
	onDisk := min(length, max(allocation.virtualSize-begin, 0))
	if n, err := f.disk.ReadAt(p[:onDisk], begin); int64(n) < onDisk {
		if err == nil || errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return n, fmt.Errorf("read the disk at byte %d: %w", begin+int64(n), err)
	}
	clear(p[onDisk:length])
	return int(length), nil
}
