// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"errors"
	"fmt"
	"io"
)

// walkChunk is how much of a table is looked at at once.
const walkChunk = 1 << 20

// errUnseen says that bytes are in the file but not among those at hand.
var errUnseen = errors.New("this part of the image cannot be seen")

// view is what of an image can be looked at: its beginning, maybe its end, maybe
// everything.
type view struct {
	head []byte
	// tail are the last bytes of a file of known size.
	tail []byte
	all  io.ReaderAt
	size int64
}

// check verifies that a part is in the file; what names it in messages.
func (v *view) check(what string, offset, length uint64) error {
	const far = 1 << 62
	switch {
	case offset > far || length > far:
		return corrupt("the %s begins at byte %d with %d bytes, far outside any file", what, offset, length)
	case v.size >= 0 && offset+length > uint64(v.size):
		return corrupt("the %s ends at byte %d but the file has only %d: the file is truncated", what, offset+length, v.size)
	}
	return nil
}

// bytes returns a part of the file, or errUnseen.
func (v *view) bytes(what string, offset, length uint64) ([]byte, error) {
	if err := v.check(what, offset, length); err != nil {
		return nil, err
	}
	end := offset + length
	switch {
	case end <= uint64(len(v.head)):
		return v.head[offset:end], nil
	case v.all != nil:
		return v.read(what, offset, length)
	case v.size < 0 && len(v.head) < HeadSize:
		return nil, corrupt("the %s ends at byte %d but the file has only %d: the file is truncated", what, end, len(v.head))
	case v.size >= 0 && offset >= uint64(v.size)-uint64(len(v.tail)):
		begin := offset - (uint64(v.size) - uint64(len(v.tail)))
		return v.tail[begin : begin+length], nil
	}
	return nil, errUnseen
}

func (v *view) read(what string, offset, length uint64) ([]byte, error) {
	if length > HeadSize {
		return nil, corrupt("the %s has %d bytes: too many to be real", what, length)
	}
	p := make([]byte, length)
	if err := readFull(v.all, p, int64(offset)); err != nil {
		return nil, fmt.Errorf("read the %s: %w", what, err)
	}
	return p, nil
}

// readFull takes an end of the file before the promised one for a failure of the
// source, which may be tried again, not for the image's.
func readFull(r io.ReaderAt, p []byte, offset int64) error {
	n, err := r.ReadAt(p, offset)
	if n == len(p) {
		return nil
	}
	if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// walk calls visit for every entry of a table, as far as the table can be seen.
// Entries have a size that divides a chunk; visit returns an error to stop.
func (v *view) walk(what string, offset, count, entry uint64, visit func(n uint64, entry []byte) error) error {
	if err := v.check(what, offset, count*entry); err != nil {
		return err
	}
	for n := uint64(0); n < count; {
		length := min((count-n)*entry, walkChunk)
		chunk, err := v.bytes(what, offset+n*entry, length)
		if errors.Is(err, errUnseen) {
			return nil
		}
		if err != nil {
			return err
		}
		for ; len(chunk) > 0; chunk = chunk[entry:] {
			if err := visit(n, chunk[:entry]); err != nil {
				return err
			}
			n++
		}
	}
	return nil
}
