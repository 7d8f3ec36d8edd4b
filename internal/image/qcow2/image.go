// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package qcow2 reads and writes the structure of qcow2 images: where in the
// file the bytes of the disk are.
//
// The reader exists so that an image can be unpacked by one sequential pass over
// the file instead of by QEMU's jumps. It believes nothing: every offset is
// compared with the file's length, nothing may lie in the place of anything
// else, and memory depends on what the file really holds, never on what it
// says. What is valid but beyond it is told apart by ErrUnsupported, so that a
// caller can leave such an image to qemu-img.
package qcow2

import (
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"

	"github.com/deckhouse/virtualization/internal/image"
)

// ErrUnsupported marks images that are valid but that only QEMU reads.
var ErrUnsupported = errors.New("the qcow2 image has to be read by qemu-img")

func corrupt(format string, args ...any) error {
	return &image.Error{Kind: image.Corrupt, Message: fmt.Sprintf(format, args...)}
}

// firstRead is usually the whole first cluster, which holds the header.
const firstRead = 64 << 10

// Image is the structure of an opened image. Its methods may be called at the
// same time.
type Image struct {
	header image.QCOW2
	size   int64
	runs   []run
}

// Open reads the header and all tables of the image in the first size bytes of
// r. Every error is an *image.Error, wraps ErrUnsupported or wraps r's error.
func Open(r io.ReaderAt, size int64) (*Image, error) {
	if size <= 0 {
		return nil, corrupt("the qcow2 image is empty")
	}
	header, err := readHeader(r, size)
	if err != nil {
		return nil, err
	}
	if header.ExtendedL2 {
		return nil, fmt.Errorf("%w: it divides its clusters (extended L2 entries)", ErrUnsupported)
	}
	i := &Image{header: header, size: size}
	tables, err := i.readL1(r)
	if err != nil {
		return nil, err
	}
	if err := i.readL2(r, tables); err != nil {
		return nil, err
	}
	slices.SortFunc(i.runs, func(a, b run) int { return i.compare(a, b) })
	if err := i.checkOverlaps(tables); err != nil {
		return nil, err
	}
	return i, nil
}

func readHeader(r io.ReaderAt, size int64) (image.QCOW2, error) {
	for length := min(size, firstRead); ; length = min(size, image.HeadSize) {
		head := make([]byte, length)
		if err := readFull(r, head, 0); err != nil {
			return image.QCOW2{}, err
		}
		header, err := image.ParseQCOW2(head, size)
		// A list of extensions may go on where the first read ended.
		if err == nil || length == min(size, image.HeadSize) {
			return header, err
		}
	}
}

// readFull tells a file that ends too early from one that cannot be read.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return corrupt("the qcow2 image ends at byte %d, before the end of its tables: the file is truncated", offset+int64(n))
	}
	return fmt.Errorf("read %d bytes at byte %d of the qcow2 image: %w", len(p), offset, err)
}

// VirtualSize is the size of the disk in bytes as a guest sees it.
func (i *Image) VirtualSize() int64 { return i.header.VirtualSize }

// ClusterSize is the unit in which the disk is mapped.
func (i *Image) ClusterSize() int64 { return 1 << i.header.ClusterBits }

// clusters is how many of them the disk has.
func (i *Image) clusters() uint64 {
	return uint64((i.VirtualSize() + i.ClusterSize() - 1) / i.ClusterSize())
}

// Extents yields all of the disk that the file says anything about, in the order
// of the file: extents without bytes in the file come first. Whatever is in no
// extent reads as zeros.
func (i *Image) Extents() iter.Seq[Extent] {
	return func(yield func(Extent) bool) {
		for _, r := range i.runs {
			if !yield(i.extent(r)) {
				return
			}
		}
	}
}
