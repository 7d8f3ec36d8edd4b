// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/zlib"
)

// ErrNoGrainStream says that an image cannot be read from one grain to the next, or
// not any further: only its tables tell where what is.
var ErrNoGrainStream = errors.New("the image's grains do not follow each other in the order of the disk")

const (
	// maxStreamedGrain bounds the memory for a grain; usual are 64 KiB.
	maxStreamedGrain = 1 << 20

	vmdkEndMark       = 0
	vmdkTableMark     = 1
	vmdkDirectoryMark = 2
)

// GrainStream is the content of a streamOptimized VMDK as it comes along in the file:
// marks in whole sectors, most of them followed by a compressed grain and its place
// on the disk. So such an image can be unpacked while it arrives, without its tables,
// which many programs put at the end of the file. The facts are from VMware's Virtual
// Disk Format 5.0, "Stream-Optimized Compressed Sparse Extents"; that QEMU writes no
// mark at the end but fills up with zeros was seen in what it writes.
type GrainStream struct {
	Info Info
	// Start is where in the file the first mark is, GrainSize how much of the disk
	// a grain holds, both in bytes.
	Start, GrainSize int64

	size   int64
	footer bool
	last   int64
}

// GrainMark is what a mark says. Places and lengths are in bytes.
type GrainMark struct {
	// Length is how much of the disk the grain holds, from Offset on; 0 for marks
	// of something else.
	Offset, Length int64
	// Packed is the length of the compressed grain.
	Packed int64
	// Size is what the mark takes of the file with all that belongs to it.
	Size int64
	// End is true if nothing follows but zeros.
	End bool
}

// OpenGrainStream inspects an image like InspectAt. It returns ErrNoGrainStream for one
// of another format, or without marks.
func OpenGrainStream(r io.ReaderAt, size int64) (*GrainStream, error) {
	v, err := viewOf(r, size)
	if err != nil {
		return nil, err
	}
	// Before the tables are read: who gets the image next reads them anyway.
	if !isVMDK(v.head) || len(v.head) >= vmdkHeaderSize && !parseVMDK(v.head).marked() {
		return nil, ErrNoGrainStream
	}
	h, err := readVMDK(v)
	if err != nil {
		return nil, err
	}
	s := &GrainStream{Info: h.info(), Start: int64(h.overhead) * sectorSize, GrainSize: int64(h.grain) * sectorSize,
		size: size, footer: h.footer, last: int64(h.last) * sectorSize}
	if s.GrainSize > maxStreamedGrain || h.overhead == 0 || h.overhead > uint64(size)/sectorSize {
		return nil, ErrNoGrainStream
	}
	return s, nil
}

// marked tells whether grains have marks in front of them.
func (h *vmdkHeader) marked() bool { return h.compressed() && h.flags&vmdkFlagMarkers != 0 }

// MarkSize is how many bytes Mark looks at.
const MarkSize = sectorSize

// Mark reads the mark at a place of the file. It returns ErrNoGrainStream for what is
// none: maybe the tables tell more.
func (s *GrainStream) Mark(at int64, sector []byte) (GrainMark, error) {
	le := binary.LittleEndian
	value, packed := le.Uint64(sector), int64(le.Uint32(sector[8:]))
	left := uint64(s.size-at) / sectorSize
	if packed > 0 {
		return s.grainMark(value, packed, left)
	}
	switch kind := le.Uint32(sector[12:]); {
	case kind == vmdkEndMark && value == 0 && (!s.footer || left == 1):
		return GrainMark{Size: sectorSize, End: true}, nil
	case kind >= vmdkTableMark && kind <= vmdkFooterMark && value > 0 && value < left:
		return GrainMark{Size: int64(value+1) * sectorSize}, nil
	}
	return GrainMark{}, ErrNoGrainStream
}

func (s *GrainStream) grainMark(sector uint64, packed int64, left uint64) (GrainMark, error) {
	m := GrainMark{Packed: packed, Size: roundUp(vmdkGrainMark+packed, sectorSize)}
	// What cannot be compressed becomes a little longer, but not by half.
	if sector >= uint64(s.Info.VirtualSize)/sectorSize || packed > s.GrainSize*3/2 || uint64(m.Size)/sectorSize > left {
		return GrainMark{}, ErrNoGrainStream
	}
	m.Offset = int64(sector) * sectorSize
	m.Length = min(s.GrainSize, s.Info.VirtualSize-m.Offset)
	if m.Offset%s.GrainSize != 0 {
		return GrainMark{}, ErrNoGrainStream
	}
	return m, nil
}

// Complete tells whether a stream whose last grain was at a place of the file (0 for
// none) was all of the disk. A footer proves that by being where it has to be.
func (s *GrainStream) Complete(last int64) bool { return s.footer || last == s.last }

var grainInflaters sync.Pool

// Unpack fills dst with the beginning of a grain, all bytes of which, with the mark,
// are in src. It may be called at the same time.
func (s *GrainStream) Unpack(dst, src []byte, m GrainMark) error {
	if err := s.unpack(dst, src[vmdkGrainMark:vmdkGrainMark+m.Packed]); err != nil {
		return corrupt("the grain for byte %d of the VMDK image's disk cannot be unpacked (%v): the file is damaged", m.Offset, err)
	}
	return nil
}

func (s *GrainStream) unpack(dst, packed []byte) error {
	r, err := grainInflater(packed)
	if err != nil {
		return err
	}
	defer grainInflaters.Put(r)
	n, err := io.ReadFull(r, dst)
	if err != nil {
		return fmt.Errorf("%d bytes instead of %d: %w", n, len(dst), err)
	}
	// Only the end of it tells whether the checksum is right. The last grain of a disk
	// may be whole where the disk is not.
	rest, err := io.Copy(io.Discard, io.LimitReader(r, s.GrainSize))
	if err == nil && int64(n)+rest > s.GrainSize {
		err = fmt.Errorf("more than %d bytes", s.GrainSize)
	}
	return err
}

func grainInflater(packed []byte) (io.Reader, error) {
	if r, ok := grainInflaters.Get().(io.Reader); ok {
		return r, r.(zlib.Resetter).Reset(bytes.NewReader(packed), nil)
	}
	return zlib.NewReader(bytes.NewReader(packed))
}
