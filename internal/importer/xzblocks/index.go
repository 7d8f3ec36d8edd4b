// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package xzblocks

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"hash"
	"hash/crc32"
	"io"

	"github.com/therootcompany/xz"
)

// records is what has been seen of a stream's blocks. Its memory is the same for
// any number of them, which a file can have made very large.
type records struct {
	count int64
	sum   hash.Hash
}

func newRecords() *records { return &records{sum: sha256.New()} }

func (r *records) add(unpadded, unpacked int64) {
	r.count++
	var record [16]byte
	binary.LittleEndian.PutUint64(record[:], uint64(unpadded))
	binary.LittleEndian.PutUint64(record[8:], uint64(unpacked))
	r.sum.Write(record[:])
}

func (r *records) equal(other *records) bool {
	return r.count == other.count && bytes.Equal(r.sum.Sum(nil), other.sum.Sum(nil))
}

// readIndex reads the index and the footer behind the last block, and fails if
// they tell of other blocks than those that were there.
func readIndex(in *bufio.Reader, h *streamHeader, seen *records) error {
	index := &summing{in: in}
	if indicator, err := index.ReadByte(); err != nil || indicator != 0 {
		return truncated(err)
	}
	told, err := readRecords(index, seen.count)
	if err != nil {
		return err
	}
	if !told.equal(seen) {
		return xz.ErrData
	}
	for index.size%4 != 0 {
		if b, err := index.ReadByte(); err != nil || b != 0 {
			return truncated(err)
		}
	}
	var end [4 + footerSize]byte
	if _, err := io.ReadFull(in, end[:]); err != nil {
		return truncated(err)
	}
	if binary.LittleEndian.Uint32(end[:]) != index.sum || !bytes.Equal(end[4:], footer(h, index.size+4)) {
		return xz.ErrData
	}
	return nil
}

// readRecords reads the list of an index, of as many blocks as there were.
func readRecords(index *summing, want int64) (*records, error) {
	told := newRecords()
	count, err := readInteger(index)
	if err != nil {
		return nil, err
	}
	if count != want {
		return nil, xz.ErrData
	}
	for told.count < count {
		unpadded, err := readInteger(index)
		if err != nil {
			return nil, err
		}
		unpacked, err := readInteger(index)
		if err != nil {
			return nil, err
		}
		told.add(unpadded, unpacked)
	}
	return told, nil
}

// readInteger reads a multibyte integer (1.2), which has one encoding only.
func readInteger(from io.ByteReader) (int64, error) {
	var value int64
	for shift := 0; shift < 63; shift += 7 {
		b, err := from.ReadByte()
		if err != nil {
			return 0, truncated(err)
		}
		value |= int64(b&0x7f) << shift
		if b < 0x80 {
			if b == 0 && shift > 0 {
				return 0, xz.ErrData
			}
			return value, nil
		}
	}
	return 0, xz.ErrData
}

// summing counts what is read through it, and keeps its checksum.
type summing struct {
	in   io.ByteReader
	size int64
	sum  uint32
}

func (s *summing) ReadByte() (byte, error) {
	b, err := s.in.ReadByte()
	if err == nil {
		s.size++
		s.sum = crc32.Update(s.sum, crc32.IEEETable, []byte{b})
	}
	return b, err
}

// truncated tells the end of the input in the middle of something, and nothing
// being wrong with reading but with what was read, from a failure to read.
func truncated(err error) error {
	switch {
	case err == nil:
		return xz.ErrData
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return xz.ErrBuf
	}
	return err
}
