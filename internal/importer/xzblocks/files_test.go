// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package xzblocks

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
)

// file is an xz file in the making. What it packs stays as it is: a chunk of
// LZMA2 may say that its bytes are not compressed.
type file struct {
	bytes.Buffer
	header streamHeader
	seen   [][2]int64
}

func newFile() *file {
	f := &file{}
	f.stream()
	return f
}

// stream begins one whose check is a CRC32.
func (f *file) stream() *file {
	copy(f.header[:], headerMagic+"\x00\x01")
	binary.LittleEndian.PutUint32(f.header[8:], crc32.ChecksumIEEE(f.header[6:8]))
	f.Write(f.header[:])
	f.seen = nil
	return f
}

// block adds one whose header has both sizes.
func (f *file) block(content []byte) *file { return f.anyBlock(content, true) }

// anyBlock adds one with the sizes in its header, or without them.
func (f *file) anyBlock(content []byte, sized bool) *file {
	packed := chunks(content)
	header := []byte{0, 0}
	if sized {
		header[1] = hasPackedSize | hasUnpackedSize
		header = binary.AppendUvarint(header, uint64(len(packed)))
		header = binary.AppendUvarint(header, uint64(len(content)))
	}
	header = append(header, 0x21, 1, 22) // LZMA2 with a dictionary of 8 MiB.
	for len(header)%4 != 0 {
		header = append(header, 0)
	}
	header[0] = byte(len(header) / 4)
	f.Write(summed(header))
	f.Write(packed)
	for n := len(packed); n%4 != 0; n++ {
		f.WriteByte(0)
	}
	f.Write(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(content)))
	f.seen = append(f.seen, [2]int64{int64(len(header) + 4 + len(packed) + 4), int64(len(content))})
	return f
}

// end writes the index and the footer.
func (f *file) end() *file { return f.endWith(f.seen) }

func (f *file) endWith(records [][2]int64) *file {
	index := binary.AppendUvarint([]byte{0}, uint64(len(records)))
	for _, record := range records {
		index = binary.AppendUvarint(index, uint64(record[0]))
		index = binary.AppendUvarint(index, uint64(record[1]))
	}
	for len(index)%4 != 0 {
		index = append(index, 0)
	}
	f.Write(summed(index))
	body := binary.LittleEndian.AppendUint32(nil, uint32(len(index)/4))
	body = append(body, 0, 1)
	f.Write(binary.LittleEndian.AppendUint32(nil, crc32.ChecksumIEEE(body)))
	f.Write(body)
	f.WriteString("YZ")
	return f
}

// pad adds zeros.
func (f *file) pad(n int) *file {
	f.Write(make([]byte, n))
	return f
}

func summed(b []byte) []byte { return binary.LittleEndian.AppendUint32(b, crc32.ChecksumIEEE(b)) }

// chunks is content in the chunks of LZMA2.
func chunks(content []byte) []byte {
	var packed []byte
	control := byte(1) // The first one resets the dictionary.
	for rest := content; len(rest) > 0; control = 2 {
		n := min(len(rest), 1<<16)
		packed = append(packed, control)
		packed = binary.BigEndian.AppendUint16(packed, uint16(n-1))
		packed = append(packed, rest[:n]...)
		rest = rest[n:]
	}
	return append(packed, 0)
}

// noise is content that differs everywhere.
func noise(n int, seed uint32) []byte {
	b := make([]byte, n)
	for i := range b {
		seed = seed*1664525 + 1013904223
		b[i] = byte(seed >> 24)
	}
	return b
}
