// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package window lets a program read a file at random that is being read in order.
//
// Programs that convert images read them nearly in order, in small steps and one
// at a time, which over a network takes a round trip each. So one stream of the
// whole file runs a little ahead of the reader and serves it; only what is far
// from the stream is requested by itself. The stream also is what checksums are
// computed from, so every block that did not come from it is compared with it. A
// block that is read twice has to be the same each time: the program sees what
// was inspected, whatever the source answers later.
package window

import (
	"crypto/sha256"
	"errors"
	"io"
	"sync"

	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// BlockSize is what is read and compared at once, in bytes: a stream begins at a multiple
// of it.
const BlockSize = 1 << 20

const (
	// blockCount bounds the window's memory.
	blockCount = 40
	// readAhead is how many blocks the sequential stream runs ahead of the reader.
	readAhead = 16
	// longJump is how many blocks in a row the reader requests at random before
	// the stream comes after it.
	longJump = 4
)

// Window is a file that is read in both ways.
type Window struct {
	ranged io.ReaderAt
	size   int64
	// first is the block that the stream begins with.
	first int64
	// whole says that the stream has to come to its end.
	whole bool
	// head is what was read of the stream before.
	head []byte

	mu      sync.Mutex
	changed *sync.Cond
	blocks  map[int64]*block
	// spare is the memory of forgotten blocks.
	spare [][]byte
	// clock orders the uses of blocks.
	clock int64
	// next is the stream's next block, wanted the last one it may go to.
	next, wanted int64
	// jumped counts the requests that followed each other closely, the latest of
	// which was for the block latest.
	jumped int
	latest int64
	// drain lets the stream run to its end: nobody reads the window any more.
	drain bool
	// running is true while the stream gives blocks.
	running bool
	err     error

	// streamed are the digests of blocks that the stream gave, requested those of
	// blocks that were read at random before the stream came to them.
	streamed  []digest
	requested map[int64]digest
	// before is what an earlier window has to have seen of the same file.
	before *Seen
}

type digest [sha256.Size]byte

// block is a block that is there or under way.
type block struct {
	content []byte
	ready   bool
	used    int64
	users   int
}

// New makes a window on a file whose stream begins at an offset. Only a stream
// from the beginning on can be whole.
func New(ranged io.ReaderAt, size, offset int64, head []byte, whole bool) *Window {
	first := offset / BlockSize
	w := &Window{ranged: ranged, size: size, first: first, next: first, wanted: first + readAhead, whole: whole, head: head,
		blocks: map[int64]*block{}, requested: map[int64]digest{}}
	w.changed = sync.NewCond(&w.mu)
	return w
}

// Size is the length of the file in bytes.
func (w *Window) Size() int64 { return w.size }

// ReadAt implements io.ReaderAt.
func (w *Window) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset > w.size-int64(len(p)) {
		return 0, io.ErrUnexpectedEOF
	}
	done := 0
	for done < len(p) {
		at := offset + int64(done)
		if at < int64(len(w.head)) {
			done += copy(p[done:], w.head[at:])
			continue
		}
		block, err := w.borrow(at / BlockSize)
		if err != nil {
			return done, err
		}
		done += copy(p[done:], block.content[at%BlockSize:])
		w.giveBack(block)
	}
	return done, nil
}

func (w *Window) giveBack(b *block) {
	w.mu.Lock()
	defer w.mu.Unlock()
	b.users--
	w.changed.Broadcast()
}

// borrow returns a block that stays as it is until it is given back.
func (w *Window) borrow(index int64) (*block, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil {
		b := w.blocks[index]
		switch {
		case b != nil && b.ready:
			b.users++
			w.clock++
			b.used = w.clock
			w.follow(index)
			return b, nil
		case b == nil && !w.comes(index) && w.makeRoom():
			if err := w.request(index); err != nil {
				w.fail(err)
			}
		default:
			w.follow(index)
			w.changed.Wait()
		}
	}
	return nil, w.err
}

// comes tells whether the stream is about to give the block.
func (w *Window) comes(index int64) bool {
	return w.running && index >= w.next && index < w.next+readAhead
}

// follow lets the stream run ahead of a block that is close to it.
func (w *Window) follow(index int64) {
	if index+readAhead > w.wanted && index < w.next+readAhead {
		w.wanted = index + readAhead
		w.changed.Broadcast()
	}
}

// chase lets a stream that has to read everything anyway catch up with a reader
// that has moved far ahead for good. Who only looks at a footer comes back.
func (w *Window) chase(index int64) {
	if distance := index - w.latest; distance > readAhead || distance < -readAhead {
		w.jumped = 0
	}
	w.latest = index
	if w.jumped++; w.whole && w.jumped > longJump && index+readAhead > w.wanted {
		w.wanted = index + readAhead
		w.changed.Broadcast()
	}
}

// request reads a block at random. The lock is given away meanwhile.
func (w *Window) request(index int64) error {
	b := &block{content: w.memory(index)}
	w.blocks[index] = b
	w.chase(index)
	w.mu.Unlock()
	n, err := w.ranged.ReadAt(b.content, index*BlockSize)
	sum := sha256.Sum256(b.content)
	w.mu.Lock()
	if n < len(b.content) {
		if err == nil || errors.Is(err, io.EOF) {
			err = &source.ChangedError{Why: "the image has become shorter"}
		}
		return err
	}
	b.ready = true
	w.clock++
	b.used = w.clock
	w.changed.Broadcast()
	if index >= w.first && index < w.next {
		return compare(sum, w.streamed[index-w.first])
	}
	if known, twice := w.requested[index]; twice {
		return compare(sum, known)
	}
	w.requested[index] = sum
	return nil
}

func compare(a, b digest) error {
	if a != b {
		return &source.ChangedError{Why: "the source sends other bytes when it is asked for a part of the image"}
	}
	return nil
}

// makeRoom forgets the block whose last use is longest ago if there are enough.
// It returns false if all of them are being used.
func (w *Window) makeRoom() bool {
	if len(w.blocks) < blockCount {
		return true
	}
	oldest := int64(-1)
	for index, b := range w.blocks {
		if b.ready && b.users == 0 && (oldest < 0 || b.used < w.blocks[oldest].used) {
			oldest = index
		}
	}
	if oldest < 0 {
		return false
	}
	w.spare = append(w.spare, w.blocks[oldest].content)
	delete(w.blocks, oldest)
	return true
}

// memory for a block; the last of a file may be shorter.
func (w *Window) memory(index int64) []byte {
	length := min(BlockSize, w.size-index*BlockSize)
	if last := len(w.spare) - 1; last >= 0 {
		content := w.spare[last]
		w.spare = w.spare[:last]
		return content[:length]
	}
	return make([]byte, length, BlockSize)
}

// fail ends all reading.
func (w *Window) fail(err error) {
	if w.err == nil {
		w.err = err
	}
	w.changed.Broadcast()
}

// Abort ends all reading from outside.
func (w *Window) Abort(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.fail(err)
}

// Failure is what ended the reading, if anything did.
func (w *Window) Failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Run passes the stream through the window, to its end if there is a checksum
// to be computed of it, else until nobody reads any more.
func (w *Window) Run(r io.Reader) error {
	w.start()
	buffer := make([]byte, BlockSize)
	for index := w.first; index*BlockSize < w.size; index++ {
		if !w.await(index) {
			return nil
		}
		content := buffer[:min(BlockSize, w.size-index*BlockSize)]
		n, err := stream.Fill(r, content)
		if n < len(content) {
			if err == nil || errors.Is(err, io.EOF) {
				err = &source.ChangedError{Why: "the image has become shorter"}
			}
			return w.end(err)
		}
		if err := w.arrive(index, content); err != nil {
			return w.end(err)
		}
	}
	n, err := stream.Fill(r, buffer[:1])
	switch {
	case n > 0:
		err = &source.ChangedError{Why: "the image has become longer"}
	case errors.Is(err, io.EOF):
		err = nil
	}
	return w.end(err)
}

func (w *Window) start() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = true
}

// await blocks until the block is wanted; it returns false if none is any more.
func (w *Window) await(index int64) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for w.err == nil && index >= w.wanted && !w.drain {
		w.changed.Wait()
	}
	return w.err == nil && (!w.drain || w.whole)
}

// arrive keeps a block of the stream for the reader.
func (w *Window) arrive(index int64, content []byte) error {
	sum := sha256.Sum256(content)
	w.mu.Lock()
	defer w.mu.Unlock()
	w.next = index + 1
	defer w.changed.Broadcast()
	// A stream that is behind has nothing that the reader waits for.
	useful := !w.drain && index+2*readAhead >= w.wanted
	if w.blocks[index] == nil && useful && w.makeRoom() {
		b := &block{content: w.memory(index), ready: true}
		copy(b.content, content)
		w.clock++
		b.used = w.clock
		w.blocks[index] = b
	}
	w.streamed = append(w.streamed, sum)
	if !w.continues() {
		return &source.ChangedError{Why: "the source sends other bytes than before"}
	}
	if known, twice := w.requested[index]; twice {
		delete(w.requested, index)
		return compare(sum, known)
	}
	return nil
}

// end notes that the stream gives nothing more.
func (w *Window) end(err error) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.running = false
	if err != nil {
		w.fail(err)
	}
	w.changed.Broadcast()
	return w.err
}

// Finish tells that nobody reads the window any more.
func (w *Window) Finish() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.drain = true
	w.changed.Broadcast()
}
