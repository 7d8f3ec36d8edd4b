// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package xzblocks

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"

	"github.com/therootcompany/xz"
)

const (
	headerMagic = "\xfd7zXZ\x00"
	footerMagic = "YZ"
	// headerSize and footerSize are those of a stream (2.1.1, 2.1.2).
	headerSize = 12
	footerSize = 12
	// maxBlockHeader is the largest size that its first byte can tell (3.1.1).
	maxBlockHeader = 1024

	// The bits of a block's flags (3.1.2).
	hasPackedSize   = 0x40
	hasUnpackedSize = 0x80
	reservedFlags   = 0x3c

	// maxInteger is the largest of a multibyte integer (1.2).
	maxInteger = 1<<63 - 1
)

// checkSizes are the lengths of the checks by their identifiers (2.1.1.2).
var checkSizes = [16]int64{0, 4, 4, 4, 8, 8, 8, 16, 16, 16, 32, 32, 32, 64, 64, 64}

// streamHeader is the beginning of a stream.
type streamHeader [headerSize]byte

// check verifies magic bytes, flags and checksum.
func (h *streamHeader) check() error {
	switch {
	case string(h[:6]) != headerMagic:
		return xz.ErrFormat
	case binary.LittleEndian.Uint32(h[8:]) != crc32.ChecksumIEEE(h[6:8]):
		return xz.ErrData
	case h[6] != 0 || h[7] > 15:
		return xz.ErrOptions
	}
	return nil
}

func (h *streamHeader) checkSize() int64 { return checkSizes[h[7]] }

// block is what a block's header tells, in bytes.
type block struct {
	header           []byte
	packed, unpacked int64
	checkSize        int64
}

// parseBlock reads a whole header. Sized is false if it leaves out a size.
func parseBlock(header []byte, checkSize int64) (b block, sized bool, err error) {
	body := header[:len(header)-4]
	if binary.LittleEndian.Uint32(header[len(body):]) != crc32.ChecksumIEEE(body) {
		return b, false, xz.ErrData
	}
	flags := header[1]
	if flags&reservedFlags != 0 {
		return b, false, xz.ErrOptions
	}
	if flags&hasPackedSize == 0 || flags&hasUnpackedSize == 0 {
		return b, false, nil
	}
	numbers := bytes.NewReader(body[2:])
	packed, err := readInteger(numbers)
	if err != nil || packed == 0 {
		return b, false, xz.ErrData
	}
	unpacked, err := readInteger(numbers)
	// The sum of what is stored must be an integer of the format, too.
	if err != nil || packed > maxInteger-maxBlockHeader-64-3 {
		return b, false, xz.ErrData
	}
	return block{header: header, packed: packed, unpacked: unpacked, checkSize: checkSize}, true, nil
}

// stored is the length of what follows the header: the packed data, padded, and
// the check.
func (b *block) stored() int64 { return (b.packed+3)&^3 + b.checkSize }

// unpadded is the size by which the index knows a block (4.3).
func (b *block) unpadded() int64 { return int64(len(b.header)) + b.packed + b.checkSize }

// alone returns what makes a stream of just this block, when the stream's header
// stands before it: the index and the footer.
func (b *block) alone(h *streamHeader) []byte {
	index := []byte{0, 1}
	index = binary.AppendUvarint(index, uint64(b.unpadded()))
	index = binary.AppendUvarint(index, uint64(b.unpacked))
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	index = binary.LittleEndian.AppendUint32(index, crc32.ChecksumIEEE(index))
	return append(index, footer(h, int64(len(index)))...)
}

// footer ends a stream whose index takes indexSize bytes.
func footer(h *streamHeader, indexSize int64) []byte {
	body := binary.LittleEndian.AppendUint32(nil, uint32(indexSize/4-1))
	body = append(body, h[6], h[7])
	end := binary.LittleEndian.AppendUint32(make([]byte, 0, footerSize), crc32.ChecksumIEEE(body))
	return append(append(end, body...), footerMagic...)
}
