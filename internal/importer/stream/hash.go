// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package stream holds the stages that an image's bytes pass on their way.
// Each needs the same small amount of memory however long the image is.
package stream

import (
	"hash"
	"io"
	"sync"
	"sync/atomic"
)

const (
	// blockSize is the unit that is handed between stages: large enough that
	// handing over costs nothing, small enough to show progress on a slow link.
	blockSize = 256 << 10
	// blockCount bounds how far reading runs ahead of the slowest stage.
	blockCount = 8
)

// HashingReader reads ahead of its consumer and feeds hashes beside it: source,
// each hash and consumer run on their own, so the slowest of them sets the pace
// and not the sum of all.
type HashingReader struct {
	free    chan *block
	ready   chan *block
	stop    chan struct{}
	once    sync.Once
	workers sync.WaitGroup

	// current is the block that Read is in the middle of.
	current *block
	err     error
}

// block is a buffer on loan to the consumer and the hashes; the last to finish
// returns it.
type block struct {
	buffer  [blockSize]byte
	length  int
	err     error
	pending atomic.Int32
	at      int
}

// NewHashingReader starts reading r. The consumer has to read to the end or
// call Close; r is used until one of both has happened.
func NewHashingReader(r io.Reader, hashes ...hash.Hash) *HashingReader {
	h := &HashingReader{
		free:  make(chan *block, blockCount),
		ready: make(chan *block, blockCount),
		stop:  make(chan struct{}),
	}
	for range blockCount {
		h.free <- &block{}
	}
	feeds := make([]chan *block, len(hashes))
	for i, sum := range hashes {
		feeds[i] = make(chan *block, blockCount)
		h.workers.Go(func() { h.feed(feeds[i], sum) })
	}
	h.workers.Go(func() { h.produce(r, feeds) })
	return h
}

// produce fills blocks and hands them on until the source ends.
func (h *HashingReader) produce(r io.Reader, feeds []chan *block) {
	defer func() {
		close(h.ready)
		for _, feed := range feeds {
			close(feed)
		}
	}()
	for {
		var b *block
		select {
		case b = <-h.free:
		case <-h.stop:
			return
		}
		b.at = 0
		b.length, b.err = Fill(r, b.buffer[:])
		// Whoever gets the block may return it at once: nothing of it is read
		// here afterwards. No channel blocks, each has room for every block.
		last := b.err != nil
		b.pending.Store(int32(len(feeds)) + 1)
		for _, feed := range feeds {
			feed <- b
		}
		h.ready <- b
		if last {
			return
		}
	}
}

// Fill is io.ReadFull without its change of errors: the end of the source has
// to stay different from a source that broke. It returns io.EOF with a buffer
// that is not full only at the end of r.
func Fill(r io.Reader, buffer []byte) (int, error) {
	const patience = 100
	length, empty := 0, 0
	for length < len(buffer) {
		n, err := r.Read(buffer[length:])
		length += n
		if err != nil {
			return length, err
		}
		if empty++; n > 0 {
			empty = 0
		} else if empty == patience {
			return length, io.ErrNoProgress
		}
	}
	return length, nil
}

func (h *HashingReader) feed(blocks <-chan *block, sum hash.Hash) {
	for b := range blocks {
		sum.Write(b.buffer[:b.length])
		h.release(b)
	}
}

func (h *HashingReader) release(b *block) {
	if b.pending.Add(-1) == 0 {
		h.free <- b
	}
}

// Read implements io.Reader.
func (h *HashingReader) Read(p []byte) (int, error) {
	for {
		if h.current == nil {
			if h.err != nil {
				return 0, h.err
			}
			next, ok := <-h.ready
			if !ok {
				return 0, io.ErrClosedPipe
			}
			h.current = next
		}
		b := h.current
		if b.at < b.length {
			n := copy(p, b.buffer[b.at:b.length])
			b.at += n
			return n, nil
		}
		h.err = b.err
		h.current = nil
		h.release(b)
	}
}

// Wait blocks until the source is no longer used and the hashes have seen all
// that was read of it. It is called after Read has returned an error, or after
// Close and whatever makes a read of the source return.
func (h *HashingReader) Wait() { h.workers.Wait() }

// Close stops reading ahead. A read of the source that is under way is not
// interrupted.
func (h *HashingReader) Close() {
	h.once.Do(func() { close(h.stop) })
}
