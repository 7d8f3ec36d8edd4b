// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const (
	// stretchChunks is how many chunks one request brings. The registry makes all of
	// a request durable before it answers, and nothing moves meanwhile; but it is not
	// to have a request under way for ever, because it waits for them when it stops.
	stretchChunks = 16
	// buffered is the part of a chunk that the connection's buffers may hold.
	buffered = 4
	// askAgain is the pause before the registry is asked once more whether it has a
	// chunk, of which the end is still in the connection's buffers.
	askAgain = 20 * time.Millisecond
	// lateAnswer is how long a question is waited for when its request is over.
	lateAnswer = 5 * time.Second
)

// write sends a part of the layer in one request. While that is under way the
// registry is asked, chunk after chunk, to make durable what it has: so the disk, the
// network and the source all work at once. An error of the image's own content is a
// *contentFailure, and what came before it is not lost.
func (s *sender) write(ctx context.Context, until int64) error {
	ctx, cancel := context.WithCancelCause(ctx)
	body := s.newBody(until, cancel)
	// Nothing of the window may be read afterwards. What still tries to send it ends
	// with the context.
	defer body.stop()
	defer cancel(nil)
	s.location = s.upload.Location()
	probe, answered := s.upload.Probe(), make(chan struct{})
	asking, stopAsking := context.WithCancel(context.WithoutCancel(ctx))
	defer stopAsking()
	var beside sync.WaitGroup
	beside.Go(func() {
		if err := s.confirm(ctx, asking, probe, body, answered); err != nil {
			cancel(err)
		}
	})
	err := s.upload.Append(ctx, body, s.announce(until))
	close(answered)
	cause := context.Cause(ctx)
	if err != nil {
		cancel(err)
	}
	// A question under way is waited for, even after a failure: one that the registry
	// still works at when the upload is finished or cancelled would bring it back.
	late := time.AfterFunc(lateAnswer, stopAsking)
	beside.Wait()
	late.Stop()
	if err == nil {
		s.stored = body.from + body.passed.Load()
	}
	switch failure := body.failure(); {
	case failure != nil:
		return &contentFailure{failure}
	case errors.Is(err, context.Canceled) && cause != nil:
		return cause
	}
	return err
}

// announce is how much a request brings at most. What comes to an unknown end is at
// least not begun where a chunk of it has no room.
func (s *sender) announce(until int64) int64 {
	if !s.parking {
		return until - s.stored
	}
	if size := s.pass.stream.Size(); size != source.UnknownSize {
		return max(size-s.stored, 0)
	}
	return s.pass.ChunkSize
}

// confirm lets the registry make durable each chunk that was sent, and keeps
// checkpoints, until the request is answered. The questions have a context of their own.
func (s *sender) confirm(ctx, asking context.Context, probe *dvcr.Upload, body *body, answered <-chan struct{}) error {
	for {
		next := s.settled + s.pass.ChunkSize
		// A question makes the registry's disk work, so it is not asked before the
		// connection's buffers can have given up the chunk.
		margin := s.pass.ChunkSize / buffered
		if next > s.lastMark() || !body.awaitPassed(s.offset()+next+margin, answered) {
			return nil
		}
		durable, err := s.ask(asking, probe, s.offset()+next, answered)
		if err != nil {
			return err
		}
		if err := s.settle(ctx, durable); err != nil {
			return err
		}
		if durable < s.offset()+next {
			return nil // The request is answered.
		}
	}
}

// ask asks the registry until it has everything before an offset, or the request is
// answered.
func (s *sender) ask(ctx context.Context, probe *dvcr.Upload, until int64, answered <-chan struct{}) (int64, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, registryStall, errStalled)
	defer cancel()
	for {
		durable, err := probe.Offset(ctx)
		if cause := context.Cause(ctx); err != nil && cause != nil {
			err = cause
		}
		if err != nil || durable >= until {
			return durable, err
		}
		select {
		case <-answered:
			return durable, nil
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		case <-time.After(askAgain):
		}
	}
}

// settle keeps checkpoints of whole chunks that are durable in the registry, up to an
// offset of the layer, and gives them up.
func (s *sender) settle(ctx context.Context, durable int64) error {
	p := s.pass
	for next := s.settled + p.ChunkSize; next <= min(durable-s.offset(), s.lastMark()); next += p.ChunkSize {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.checkpoint(next); err != nil {
			return err
		}
		p.window.Release(next)
		s.settled = next
	}
	return nil
}

var errStalled = fmt.Errorf("the image registry takes nothing for %s", registryStall)

// body is a part of the layer on its way. It measures how long the registry takes for
// what it is given: time spent waiting for the source does not count. When the source
// fails the body simply ends, so that the registry keeps what came before.
type body struct {
	from  int64
	parts []part
	// window is the reader that has to be stopped in the end.
	window interface{ Stop() }
	timer  *time.Timer
	// passed counts the bytes that were given to the connection, and moved tells that
	// there are more.
	passed atomic.Int64
	moved  chan struct{}
	// saw is called with the number of bytes that pass.
	saw func(n int64)

	mu  sync.Mutex
	err error
}

// part of a body.
type part interface {
	io.Reader
	io.WriterTo
}

// newBody makes the part of the layer from what the registry has to an offset.
func (s *sender) newBody(until int64, cancel context.CancelCauseFunc) *body {
	b := &body{from: s.stored, moved: make(chan struct{}, 1), saw: func(n int64) { s.sent.Add(n) }}
	if s.stored < s.offset() {
		b.parts = append(b.parts, bytes.NewReader(s.head[s.stored:]))
	}
	diskEnd := s.offset() + s.size
	window := s.pass.window.Reader(max(s.stored-s.offset(), 0), min(until, diskEnd)-s.offset())
	b.parts, b.window = append(b.parts, window), window
	if until > diskEnd {
		b.parts = append(b.parts, bytes.NewReader(s.tail[max(s.stored-diskEnd, 0):]))
	}
	b.timer = time.AfterFunc(registryStall, func() { cancel(errStalled) })
	return b
}

// Read implements io.Reader, for whoever does not use WriteTo.
func (b *body) Read(p []byte) (int, error) {
	b.timer.Stop()
	defer b.timer.Reset(registryStall)
	for len(b.parts) > 0 && b.failure() == nil {
		n, err := b.parts[0].Read(p)
		b.pass(n)
		switch {
		case errors.Is(err, io.EOF):
			b.parts = b.parts[1:]
		case err != nil:
			b.fail(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, io.EOF
}

// WriteTo implements io.WriterTo: what is in the window is not copied on its way to
// the connection.
func (b *body) WriteTo(to io.Writer) (int64, error) {
	b.timer.Stop()
	defer b.timer.Reset(registryStall)
	out := &pacedWriter{to: to, body: b}
	for _, part := range b.parts {
		if _, err := part.WriteTo(out); err != nil {
			if out.err == nil {
				b.fail(err)
			}
			break
		}
	}
	return out.written, out.err
}

// pacedWriter measures what the connection takes, and keeps its errors apart from
// those of the content.
type pacedWriter struct {
	to      io.Writer
	body    *body
	written int64
	err     error
}

// Write implements io.Writer.
func (w *pacedWriter) Write(p []byte) (int, error) {
	w.body.timer.Reset(registryStall)
	n, err := w.to.Write(p)
	w.body.timer.Stop()
	w.written += int64(n)
	w.body.pass(n)
	w.err = err
	return n, err
}

func (b *body) pass(n int) {
	b.saw(int64(n))
	b.passed.Add(int64(n))
	select {
	case b.moved <- struct{}{}:
	default:
	}
}

// awaitPassed waits until everything before an offset of the layer was given to the
// connection. It returns false if the request was answered first.
func (b *body) awaitPassed(until int64, answered <-chan struct{}) bool {
	for b.from+b.passed.Load() < until {
		select {
		case <-b.moved:
		case <-answered:
			return false
		}
	}
	return true
}

// fail keeps what the content ended with. The transport may still be reading when the
// request has failed, hence the lock.
func (b *body) fail(err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = err
	}
}

func (b *body) failure() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.err
}

func (b *body) stop() {
	b.window.Stop()
	b.timer.Stop()
}
