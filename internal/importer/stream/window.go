// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"encoding"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"
)

// Window reads ahead of its consumer, feeds hashes beside, and keeps what it has
// read until it is released: what got lost on the way to the consumer's other
// end can be read again.
//
// At every multiple of a fixed number of bytes it notes the states of the
// hashes, so that a later Window can go on from there.
type Window struct {
	start, every int64
	hashes       []hash.Hash
	blocks       []windowBlock
	workers      sync.WaitGroup

	mu      sync.Mutex
	changed *sync.Cond
	// produced counts the blocks that were read, hashed those that each hash has
	// seen, released those that are not needed any more.
	produced, released int64
	hashed             []int64
	marks              map[int64][][]byte
	// end is where the stream ended, once err is set.
	end    int64
	err    error
	closed bool
}

type windowBlock struct {
	buffer []byte
	length int
}

// WindowOptions of a Window.
type WindowOptions struct {
	// Start is the offset of the first byte in the whole stream.
	Start int64
	// Every is the distance of the offsets at which the states of the hashes are
	// noted; it is a multiple of WindowUnit, and Start of Every.
	Every int64
	// Capacity is how many bytes are kept at most, rounded down to WindowUnit. It
	// is more than Every.
	Capacity int64
	// Hashes have seen all that is before Start.
	Hashes []hash.Hash
}

// WindowUnit is the unit in which a Window reads.
const WindowUnit = blockSize

// NewWindow starts reading r. The caller has to call Close and, when nothing
// keeps r from returning, Wait.
func NewWindow(r io.Reader, options WindowOptions) (*Window, error) {
	if options.Every <= 0 || options.Every%blockSize != 0 || options.Start%options.Every != 0 || options.Capacity < options.Every {
		return nil, fmt.Errorf("a window of %d bytes from %d in steps of %d cannot be made", options.Capacity, options.Start, options.Every)
	}
	w := &Window{
		start: options.Start, every: options.Every, hashes: options.Hashes,
		blocks: make([]windowBlock, options.Capacity/blockSize),
		hashed: make([]int64, len(options.Hashes)), marks: map[int64][][]byte{},
	}
	w.changed = sync.NewCond(&w.mu)
	w.workers.Go(func() { w.produce(r) })
	for i := range w.hashes {
		w.workers.Go(func() { w.feed(i) })
	}
	return w, nil
}

func (w *Window) block(n int64) *windowBlock { return &w.blocks[n%int64(len(w.blocks))] }

// produce fills blocks until the stream ends. Buffers are made as they are
// needed: a small image takes little memory.
func (w *Window) produce(r io.Reader) {
	for n := int64(0); w.awaitRoom(n); n++ {
		b := w.block(n)
		if b.buffer == nil {
			b.buffer = make([]byte, blockSize)
		}
		var err error
		b.length, err = Fill(r, b.buffer)
		w.mu.Lock()
		w.produced = n + 1
		if err != nil {
			w.end, w.err = w.start+n*blockSize+int64(b.length), err
		}
		w.changed.Broadcast()
		w.mu.Unlock()
		if err != nil {
			return
		}
	}
}

// awaitRoom waits until nobody needs what is in the block's place.
func (w *Window) awaitRoom(n int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed && n >= w.unused()+int64(len(w.blocks)) {
		w.changed.Wait()
	}
	return !w.closed
}

// unused counts the blocks that were released and that all hashes have seen.
func (w *Window) unused() int64 {
	n := w.released
	for _, hashed := range w.hashed {
		n = min(n, hashed)
	}
	return n
}

// feed is the worker of one hash.
func (w *Window) feed(i int) {
	for n := int64(0); ; n++ {
		b, more := w.awaitBlock(n)
		if !more {
			return
		}
		w.hashes[i].Write(b.buffer[:b.length])
		at := w.start + n*blockSize + int64(b.length)
		var state []byte
		if at%w.every == 0 && b.length == blockSize {
			state = marshalState(w.hashes[i])
		}
		w.mu.Lock()
		w.hashed[i] = n + 1
		if state != nil {
			if w.marks[at] == nil {
				w.marks[at] = make([][]byte, len(w.hashes))
			}
			w.marks[at][i] = state
		}
		w.changed.Broadcast()
		w.mu.Unlock()
	}
}

// awaitBlock waits for a block to be read; it returns false if it never will be.
func (w *Window) awaitBlock(n int64) (*windowBlock, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed && n >= w.produced && w.err == nil {
		w.changed.Wait()
	}
	return w.block(n), !w.closed && n < w.produced
}

func marshalState(h hash.Hash) []byte {
	state, err := h.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return nil // None of the hashes in use can fail.
	}
	return state
}

// Reader reads from an offset that is not released to another one, where it
// ends with io.EOF. It ends with the stream's own error if that comes first.
func (w *Window) Reader(from, to int64) *WindowReader {
	return &WindowReader{window: w, at: from, to: to}
}

// WindowReader reads a part of what a Window keeps.
type WindowReader struct {
	window *Window

	mu      sync.Mutex
	at, to  int64
	stopped bool
}

// Read implements io.Reader.
func (r *WindowReader) Read(p []byte) (int, error) {
	return r.next(func(rest []byte) (int, error) { return copy(p, rest), nil })
}

// WriteTo implements io.WriterTo. The writer gets the window's own memory, in pieces
// of up to WindowUnit.
func (r *WindowReader) WriteTo(to io.Writer) (int64, error) {
	for written := int64(0); ; {
		n, err := r.next(to.Write)
		written += int64(n)
		if errors.Is(err, io.EOF) {
			return written, nil
		}
		if err != nil {
			return written, err
		}
	}
}

// next waits for the block at the reader's position and lets take have the rest of
// it, of which take says how much it has used.
func (r *WindowReader) next(take func(rest []byte) (int, error)) (int, error) {
	w := r.window
	at := r.position()
	if at >= r.to {
		return 0, io.EOF
	}
	n := (at - w.start) / blockSize
	if err := w.check(at, n); err != nil {
		return 0, err
	}
	b, more := w.awaitBlock(n)
	if !more {
		return 0, w.Failure()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	within := (at - w.start) % blockSize
	switch {
	case r.stopped:
		return 0, io.ErrClosedPipe
	case within >= int64(b.length):
		return 0, w.Failure()
	}
	used, err := take(b.buffer[within:min(int64(b.length), within+r.to-at)])
	r.at += int64(used)
	return used, err
}

func (r *WindowReader) position() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.at
}

// Stop makes sure that nothing of the window is read any more. An HTTP client
// may go on reading a request's body for a while when the request has failed.
func (r *WindowReader) Stop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = true
}

func (w *Window) check(at, n int64) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if at < w.start || n < w.released {
		return errors.New("the window has gone on")
	}
	return nil
}

// Failure is what the stream ended with: io.EOF if all is well.
func (w *Window) Failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		return io.ErrClosedPipe
	}
	return w.err
}

// States returns the states of the hashes at an offset that is a multiple of
// Every, behind Start, and was read or will be.
func (w *Window) States(at int64) ([][]byte, error) {
	if len(w.hashes) == 0 {
		return nil, nil
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		states := w.marks[at]
		switch {
		case states != nil && !slices.ContainsFunc(states, func(s []byte) bool { return s == nil }):
			return states, nil
		case w.closed, w.err != nil && at > w.end, at <= w.start, at%w.every != 0:
			return nil, fmt.Errorf("no hash was in a state at byte %d", at)
		}
		w.changed.Wait()
	}
}

// Await blocks until the stream was read up to an offset, or has ended before. It
// returns where what was read ends, at most at the offset.
func (w *Window) Await(to int64) int64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.closed && w.err == nil && w.start+w.produced*blockSize < to {
		w.changed.Wait()
	}
	if w.err != nil {
		return min(w.end, to)
	}
	return min(w.start+w.produced*blockSize, to)
}

// Release gives up all whole blocks before the offset.
func (w *Window) Release(to int64) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.released = max(w.released, (to-w.start)/blockSize)
	for at := range w.marks {
		if at < to {
			delete(w.marks, at)
		}
	}
	w.changed.Broadcast()
}

// Close stops reading ahead. A read of the stream that is under way is not
// interrupted.
func (w *Window) Close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	w.changed.Broadcast()
}

// Wait blocks until the stream is no longer used and the hashes have seen all
// that was read of it, as long as Close was not called before.
func (w *Window) Wait() { w.workers.Wait() }
