// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/deckhouse/virtualization/internal/directio"
	"github.com/deckhouse/virtualization/internal/importer/stream"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

// pieceCount is how many pieces are there for all stages together.
const pieceCount = 16

// steps in which a file is read.
type steps struct {
	// piece is what is read and written at once.
	piece int64
	// chunk is how often what was written is made durable. The file is read one
	// chunk ahead of the one that is being made durable, so what has to be
	// repeated after a crash is at most two of them.
	chunk int64
	// slice is how much of a disk a converter makes at once in the beginning.
	slice int64
}

// usualSteps cost at most 64 MiB after a crash, or a slice.
var usualSteps = steps{piece: 1 << 20, chunk: 32 << 20, slice: 64 << 20}

// piece is a part of the file, on loan to all consumers.
type piece struct {
	data   []byte
	offset int64
	// zero tells that nothing but zeros is in it.
	zero    bool
	pending atomic.Int32

	// buffer goes back to free; a piece of zeros has none.
	buffer []byte
	free   chan<- *piece
}

func (p *piece) end() int64 { return p.offset + int64(len(p.data)) }

// retain lets a consumer use the piece after take has returned, until release.
func (p *piece) retain() { p.pending.Add(1) }

func (p *piece) release() {
	if p.pending.Add(-1) == 0 && p.buffer != nil {
		p.free <- p // It has room for all pieces.
	}
}

// consumer does something with the file's bytes. Each runs on a goroutine of its
// own, so the slowest sets the pace and not the sum of all.
type consumer interface {
	// take gets the pieces in the file's order.
	take(ctx context.Context, p *piece) error
	// settle returns when everything before the mark has had its effect.
	settle(ctx context.Context, m *mark) error
}

// mark is a place in the file that all consumers have to arrive at.
type mark struct {
	offset int64
	// last is the mark at the end of the file.
	last bool
	// written is a proof of what is on the disk; one consumer sets it, and grains
	// where the file consists of them.
	written []sample
	grains  *grainState

	mu     sync.Mutex
	hashes map[string][]byte

	missing atomic.Int32
	arrived chan struct{}
}

// remember keeps the state of a hash at the mark.
func (m *mark) remember(name string, state []byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.hashes[name] = state
}

// message is either a piece or a mark.
type message struct {
	piece *piece
	mark  *mark
}

// pipeline reads a file and gives it to its consumers.
type pipeline struct {
	steps
	consumers []consumer
	// reach is called when all consumers have settled at a mark, in the order of
	// the marks; the file is read on meanwhile.
	reach func(ctx context.Context, m *mark) error
	// interrupt makes a read of the file return.
	interrupt func()
	// beside runs beside all that; it may be nil.
	beside func(ctx context.Context) error

	cancel context.CancelCauseFunc
	feeds  []chan message
	marks  chan *mark
}

// run reads r, whose first byte is at offset, to its end and returns where that
// is. The first error ends everything.
func (l *pipeline) run(ctx context.Context, r io.Reader, offset int64) (int64, error) {
	parent := ctx
	ctx, l.cancel = context.WithCancelCause(ctx)
	defer l.cancel(nil)
	l.marks = make(chan *mark)
	l.feeds = make([]chan message, len(l.consumers))
	var group sync.WaitGroup
	start := func(f func() error) {
		group.Go(func() {
			if err := f(); err != nil {
				l.cancel(err)
				l.interrupt()
			}
		})
	}
	for i, c := range l.consumers {
		l.feeds[i] = make(chan message, pieceCount)
		start(func() error { return feed(ctx, c, l.feeds[i]) })
	}
	if l.beside != nil {
		start(func() error { return l.beside(ctx) })
	}
	start(func() error { return l.settle(ctx) })
	end := offset
	start(func() (err error) {
		end, err = l.read(ctx, r, offset)
		return err
	})
	group.Wait()
	if parent.Err() != nil {
		return end, parent.Err()
	}
	return end, context.Cause(ctx)
}

// read cuts the file into pieces and sets the marks.
func (l *pipeline) read(ctx context.Context, r io.Reader, offset int64) (int64, error) {
	defer func() {
		close(l.marks)
		for _, f := range l.feeds {
			close(f)
		}
	}()
	cutter := newCutter(l.piece)
	for {
		p, err := cutter.next(ctx, r, offset)
		if p == nil {
			return offset, err
		}
		offset = p.end()
		if sent := l.send(ctx, p); sent != nil {
			return offset, sent
		}
		if last := err != nil; last || offset%l.chunk == 0 {
			if err := l.setMark(ctx, offset, last); err != nil || last {
				return offset, err
			}
		}
	}
}

// cutter makes pieces of a file.
type cutter struct {
	free chan *piece
	// spare has been taken from free and not been needed.
	spare *piece
	// zeros are the content of all pieces without any other.
	zeros []byte
}

func newCutter(size int64) *cutter {
	c := &cutter{free: make(chan *piece, pieceCount), zeros: directio.Buffer(int(size))}
	for range pieceCount {
		c.free <- &piece{buffer: directio.Buffer(int(size)), free: c.free}
	}
	return c
}

// next reads a piece. The last one, which may be empty, comes with io.EOF; with any
// other error there is none.
//
// Zeros are looked for here, where the bytes are still in the processor's cache, and
// their buffer is read into again at once: most of a sparse disk never leaves it.
func (c *cutter) next(ctx context.Context, r io.Reader, offset int64) (*piece, error) {
	p := c.spare
	if p == nil {
		select {
		case p = <-c.free:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	n, err := stream.Fill(r, p.buffer)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if volume.IsZero(p.buffer[:n]) {
		c.spare = p
		return &piece{data: c.zeros[:n], zero: true, offset: offset}, err
	}
	c.spare = nil
	p.data, p.offset = p.buffer[:n], offset
	return p, err
}

func (l *pipeline) send(ctx context.Context, p *piece) error {
	if len(p.data) == 0 {
		return nil // The end of a file whose length is a multiple of the piece's.
	}
	p.pending.Store(int32(len(l.feeds)))
	return l.tell(ctx, message{piece: p})
}

// setMark blocks while the mark before is still being reached.
func (l *pipeline) setMark(ctx context.Context, offset int64, last bool) error {
	m := &mark{offset: offset, last: last, hashes: map[string][]byte{}, arrived: make(chan struct{})}
	m.missing.Store(int32(len(l.feeds)))
	if err := l.tell(ctx, message{mark: m}); err != nil {
		return err
	}
	select {
	case l.marks <- m:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *pipeline) tell(ctx context.Context, m message) error {
	for _, f := range l.feeds {
		select {
		case f <- m:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

func feed(ctx context.Context, c consumer, messages <-chan message) error {
	for m := range messages {
		if m.piece != nil {
			if err := c.take(ctx, m.piece); err != nil {
				return err
			}
			m.piece.release()
			continue
		}
		if err := c.settle(ctx, m.mark); err != nil {
			return err
		}
		if m.mark.missing.Add(-1) == 0 {
			close(m.mark.arrived)
		}
	}
	return nil
}

func (l *pipeline) settle(ctx context.Context) error {
	for m := range l.marks {
		select {
		case <-m.arrived:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := l.reach(ctx, m); err != nil {
			return err
		}
	}
	return nil
}
