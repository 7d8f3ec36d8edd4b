// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package xzblocks

import (
	"bufio"
	"bytes"
	"errors"
	"io"

	"github.com/therootcompany/xz"
)

const (
	// parallel is how many blocks are unpacked at once: an importer has two
	// processors.
	parallel = 2
	// maxBlock bounds what a block may take, packed as well as unpacked, to be
	// held in memory and unpacked beside others. The blocks of `xz -6`, the default, have 24 MiB;
	// those of `xz -9` have 192 MiB, and are unpacked one after another.
	maxBlock = 24 << 20
	// inputBuffer is that of the reader below.
	inputBuffer = 256 << 10
)

var errMixed = errors.New("xz: some blocks tell their sizes and others do not")

// Reader returns the content of an xz file of one or more streams. It is for one
// goroutine, and it reads its input only while its Read is called.
type Reader struct {
	in     *bufio.Reader
	window uint32

	header streamHeader
	seen   *records
	// first is true until the first block of a stream.
	first bool

	// ahead are the parts that are not given away yet, the next one first.
	ahead []part
	// current and left are what is being given away; serial is in their place if
	// it is unpacked on the way.
	current *job
	left    []byte
	serial  io.Reader
	// err is what ends everything, after what is ahead.
	err  error
	free []*job
}

// part of the content: a block that is unpacked elsewhere, or something that is
// unpacked here when its turn comes.
type part struct {
	job    *job
	serial io.Reader
}

// NewReader returns a reader of the file that r begins. Window bounds in bytes
// how much of the content each unpacking may have to keep. Errors of r are
// returned as they are; what is wrong with the file is one of xz's errors.
func NewReader(r io.Reader, window uint32) (*Reader, error) {
	z := &Reader{in: bufio.NewReaderSize(r, inputBuffer), window: window}
	if err := z.begin(); err != nil {
		return nil, err
	}
	return z, nil
}

// begin reads a stream's header.
func (z *Reader) begin() error {
	if _, err := io.ReadFull(z.in, z.header[:]); err != nil {
		return truncated(err)
	}
	z.seen, z.first = newRecords(), true
	return z.header.check()
}

// Read implements io.Reader.
func (z *Reader) Read(p []byte) (int, error) {
	for len(p) > 0 {
		if len(z.left) > 0 {
			n := copy(p, z.left)
			z.left = z.left[n:]
			return n, nil
		}
		if z.serial != nil {
			n, err := z.serial.Read(p)
			if errors.Is(err, io.EOF) {
				z.serial, err = nil, nil
			}
			if n > 0 || err != nil {
				return n, err
			}
		}
		if err := z.next(); err != nil {
			return 0, err
		}
	}
	return 0, nil
}

// next makes the next part the one that is given away.
func (z *Reader) next() error {
	if z.current != nil {
		z.free, z.current = append(z.free, z.current), nil
	}
	z.lookAhead()
	if len(z.ahead) == 0 {
		return z.err
	}
	part := z.ahead[0]
	z.ahead = z.ahead[1:]
	if part.job == nil {
		z.serial = part.serial
		return nil
	}
	err := <-part.job.done
	if err != nil {
		z.ahead, z.err = nil, err
		return err
	}
	z.current, z.left = part.job, part.job.unpacked
	// The others go on while the caller takes this one.
	z.lookAhead()
	return nil
}

// lookAhead hands out blocks until enough are on their way. What is unpacked here
// has to be read by its reader before anything behind it can be.
func (z *Reader) lookAhead() {
	for z.err == nil && len(z.ahead) < parallel && (len(z.ahead) == 0 || z.ahead[len(z.ahead)-1].job != nil) {
		if err := z.read(); err != nil {
			z.err = err
		}
	}
}

// read reads what comes next in the file: a block, or the end of a stream.
func (z *Reader) read() error {
	first, err := z.in.Peek(1)
	if err != nil {
		return truncated(err)
	}
	if first[0] == 0 {
		return z.end()
	}
	size := (int(first[0]) + 1) * 4
	header, err := z.in.Peek(size)
	if err != nil {
		return truncated(err)
	}
	b, sized, err := parseBlock(bytes.Clone(header), z.header.checkSize())
	if err != nil {
		return err
	}
	if !sized {
		return z.readRest()
	}
	z.first = false
	_, _ = z.in.Discard(size) // It was there to be looked at.
	z.seen.add(b.unpadded(), b.unpacked)
	// What cannot be packed grows by a little.
	if b.stored() > maxBlock+maxBlock/1024 || b.unpacked > maxBlock {
		return z.readAlone(b)
	}
	job, err := z.job()
	if err != nil {
		return err
	}
	if err := job.start(z.in, &z.header, b); err != nil {
		return err
	}
	z.ahead = append(z.ahead, part{job: job})
	return nil
}

// readAlone has a block unpacked that is too large to be held.
func (z *Reader) readAlone(b block) error {
	reader, err := xz.NewReader(io.MultiReader(bytes.NewReader(z.header[:]), bytes.NewReader(b.header),
		io.LimitReader(z.in, b.stored()), bytes.NewReader(b.alone(&z.header))), z.window)
	if err != nil {
		return err
	}
	z.ahead = append(z.ahead, part{serial: reader})
	return nil
}

// readRest has all the rest of the file unpacked in one go: where this block ends
// shows only then. Programs give sizes to all blocks of a stream or to none.
func (z *Reader) readRest() error {
	if !z.first {
		return errMixed
	}
	reader, err := xz.NewReader(io.MultiReader(bytes.NewReader(z.header[:]), z.in), z.window)
	if err != nil {
		return err
	}
	z.ahead, z.err = append(z.ahead, part{serial: reader}), io.EOF
	return nil
}

// end reads what is behind the last block, and the header of the next stream. It
// returns io.EOF at the end of the file.
func (z *Reader) end() error {
	if err := readIndex(z.in, &z.header, z.seen); err != nil {
		return err
	}
	for {
		// Padding comes in fours (2.2).
		four, err := z.in.Peek(4)
		switch {
		case len(four) == 0 && errors.Is(err, io.EOF):
			return io.EOF
		case err != nil:
			return truncated(err)
		case !bytes.Equal(four, make([]byte, 4)):
			return z.begin()
		}
		_, _ = z.in.Discard(len(four))
	}
}

// Close implements io.Closer. What is being unpacked ends by itself.
func (z *Reader) Close() error {
	z.ahead, z.free, z.current, z.left, z.serial = nil, nil, nil, nil, nil
	z.err = io.ErrClosedPipe
	return nil
}
