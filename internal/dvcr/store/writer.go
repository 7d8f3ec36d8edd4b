// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"

	"github.com/deckhouse/virtualization/internal/directio"
)

const (
	// blockSize is written at once. A volume on the network answers each write after
	// a while, and so needs large ones.
	blockSize = 4 << 20
	// waiting blocks are those between the one that is filled and the one that is
	// written: a writer holds two more than that in memory.
	waiting = 1
)

var (
	errClosed = errors.New("the upload's writer is closed")
	// errOvertaken says that another request has begun to write to the upload.
	errOvertaken = errors.New("another request writes to the upload")
)

// blocks are used again: making and clearing them costs as much as filling them.
var blocks = sync.Pool{New: func() any {
	memory := directio.Buffer(blockSize)
	return &memory
}}

// pageSize is what is written past the page cache or through it, never both.
const pageSize = 4096

// writer appends to one upload. It writes in the order in which it is given bytes, so
// the file never has a gap. Nothing is begun before the first byte: most writers are
// made to learn the size of a file, while another one writes to it.
type writer struct {
	driver  *Driver
	path    string
	request any
	file    *directio.File

	// filling is held while the block is filled.
	filling sync.Mutex
	// size of the file with all that was accepted.
	size int64
	// block holds what is to be at an offset of the file.
	block  *[]byte
	filled int
	begun  int64
	queue  chan piece
	idle   chan struct{}
	ended  bool
	closed bool

	// mu is held while the file is written to.
	mu     sync.Mutex
	failed error
	// cancelled says that the failure is wanted.
	cancelled bool
}

// piece of the file that is complete.
type piece struct {
	block  *[]byte
	length int
	offset int64
	// written is closed when all before it was written; such a piece is empty.
	written chan struct{}
}

// Size implements storagedriver.FileWriter. After a failure it is what really is there.
func (w *writer) Size() int64 {
	if w.failure() == nil {
		w.filling.Lock()
		defer w.filling.Unlock()
		return w.size
	}
	info, err := os.Stat(w.driver.full(w.path))
	if err != nil {
		return 0
	}
	return info.Size()
}

// Write implements io.Writer. An error may belong to earlier bytes.
func (w *writer) Write(p []byte) (int, error) {
	w.filling.Lock()
	defer w.filling.Unlock()
	if w.ended {
		return 0, errClosed
	}
	if w.queue == nil {
		if err := w.begin(); err != nil {
			w.fail(err)
		}
	}
	written := 0
	for len(p) > 0 {
		if err := w.failure(); err != nil {
			return written, err
		}
		n := w.fill(p)
		p, written = p[n:], written+n
	}
	return written, nil
}

// fill takes what has room in the block, and hands it over when it is full. Blocks end
// at multiples of their size, wherever the first one begins.
func (w *writer) fill(p []byte) int {
	if w.block == nil {
		w.block, w.filled, w.begun = blocks.Get().(*[]byte), 0, w.size
	}
	room := blockSize - int(w.begun%blockSize)
	n := copy((*w.block)[w.filled:room], p)
	w.filled += n
	w.size += int64(n)
	if w.filled == room {
		w.queue <- piece{block: w.block, length: w.filled, offset: w.begun}
		w.block = nil
	}
	return n
}

// begin makes this writer the only one, and makes sure that nothing has come in
// between: bytes in the wrong place would be worse than none.
func (w *writer) begin() error {
	w.queue, w.idle = make(chan piece, waiting), make(chan struct{})
	go w.work()
	w.driver.begin(w)
	info, err := w.file.Stat()
	if err != nil {
		return err
	}
	if info.Size() != w.size {
		return fmt.Errorf("%w: it has %d bytes in place of %d", errOvertaken, info.Size(), w.size)
	}
	return nil
}

// flush returns when all whole pages of what was accepted are in the file. The rest of
// a page waits, because writing goes on behind it.
func (w *writer) flush() {
	w.filling.Lock()
	defer w.filling.Unlock()
	if w.ended || w.queue == nil {
		return
	}
	if whole := w.filled - int(w.size%pageSize); w.block != nil && whole > 0 {
		rest := blocks.Get().(*[]byte)
		left := copy(*rest, (*w.block)[whole:w.filled])
		w.queue <- piece{block: w.block, length: whole, offset: w.begun}
		w.block, w.filled, w.begun = rest, left, w.begun+int64(whole)
	}
	written := make(chan struct{})
	w.queue <- piece{written: written}
	<-written
}

// work writes what is handed over. After a failure it only gives the blocks back.
func (w *writer) work() {
	defer close(w.idle)
	for p := range w.queue {
		if p.written != nil {
			close(p.written)
			continue
		}
		w.store(p)
		blocks.Put(p.block)
	}
}

func (w *writer) store(p piece) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed != nil {
		return
	}
	_, w.failed = w.file.WriteAt((*p.block)[:p.length], p.offset)
}

// finish writes the rest and makes all of it durable, once. Nothing can be written
// afterwards.
func (w *writer) finish() error {
	w.filling.Lock()
	defer w.filling.Unlock()
	if w.ended {
		return w.failure()
	}
	w.ended = true
	if w.queue != nil {
		if w.block != nil {
			w.queue <- piece{block: w.block, length: w.filled, offset: w.begun}
		}
		close(w.queue)
		<-w.idle
	}
	if w.failure() == nil {
		// All of the file's metadata counts: it may be new.
		if err := directio.Retry(w.file.Sync); err != nil {
			w.fail(err)
		}
	}
	return w.failure()
}

// Close implements io.Closer. What was accepted is durable if there is no error. A
// second call only repeats what the first one has found.
func (w *writer) Close() error {
	err := w.finish()
	w.driver.end(w)
	if !w.closed {
		w.closed = true
		err = errors.Join(err, w.file.Close())
	}
	if w.cancelled {
		return nil
	}
	return err
}

// Commit implements storagedriver.FileWriter.
func (w *writer) Commit(context.Context) error {
	if w.closed {
		return errClosed
	}
	return w.finish()
}

// Cancel implements storagedriver.FileWriter.
func (w *writer) Cancel(context.Context) error {
	if w.closed {
		return errClosed
	}
	w.cancelled = true
	w.fail(errClosed)
	return errors.Join(w.Close(), os.Remove(w.driver.full(w.path)))
}

// abandon keeps what was not written yet from being written. When it returns nothing
// more will be.
func (w *writer) abandon() { w.fail(errOvertaken) }

// fail keeps the first error. It waits for a write that is under way.
func (w *writer) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.failed == nil {
		w.failed = err
	}
}

func (w *writer) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}
