// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"errors"
	"io"
	"sync/atomic"
)

// Counter counts the bytes that pass. Its count may be read at any time.
type Counter struct {
	reader io.Reader
	count  atomic.Int64
}

// NewCounter counts what is read from r.
func NewCounter(r io.Reader) *Counter { return &Counter{reader: r} }

// Read implements io.Reader.
func (c *Counter) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	c.count.Add(int64(n))
	return n, err
}

// Count is how many bytes have passed.
func (c *Counter) Count() int64 { return c.count.Load() }

// ErrLength says that a stream is not as long as it should be.
var ErrLength = errors.New("the stream is not as long as promised")

// Exactly returns a reader of r that ends with io.EOF after size bytes if r
// ends there, too, and with ErrLength in all other cases.
func Exactly(r io.Reader, size int64) io.Reader { return &exactReader{reader: r, left: size} }

type exactReader struct {
	reader io.Reader
	left   int64
}

func (e *exactReader) Read(p []byte) (int, error) {
	if e.left == 0 {
		return 0, e.end()
	}
	if int64(len(p)) > e.left {
		p = p[:e.left]
	}
	n, err := e.reader.Read(p)
	e.left -= int64(n)
	switch {
	case err == io.EOF && e.left > 0:
		return n, ErrLength
	case err == io.EOF:
		return n, nil // The next call looks whether there is more.
	}
	return n, err
}

// end verifies that nothing follows the last byte.
func (e *exactReader) end() error {
	var more [1]byte
	for {
		n, err := e.reader.Read(more[:])
		if n > 0 {
			return ErrLength
		}
		if err != nil {
			return err
		}
	}
}

// ErrTooLong says that a stream exceeds its bound.
var ErrTooLong = errors.New("the stream is longer than allowed")

// AtMost returns a reader of r that fails with ErrTooLong behind limit bytes.
func AtMost(r io.Reader, limit int64) io.Reader { return &boundReader{reader: r, left: limit} }

type boundReader struct {
	reader io.Reader
	left   int64
}

func (b *boundReader) Read(p []byte) (int, error) {
	if b.left < 0 {
		return 0, ErrTooLong
	}
	// One byte more than allowed is asked for, to tell the end from excess.
	if int64(len(p))-1 > b.left {
		p = p[:b.left+1]
	}
	n, err := b.reader.Read(p)
	if b.left -= int64(n); b.left < 0 {
		return n - 1, ErrTooLong
	}
	return n, err
}
