// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"errors"
	"io"
	"sync"
	"sync/atomic"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

// watched is a source's stream whose progress can be seen, and whose first error
// is kept: the stages behind it wrap, replace or outrun it.
type watched struct {
	source.Stream
	progress *Progress

	received atomic.Int64
	mu       sync.Mutex
	err      error
	// recording keeps what was read, until it is known who reads the rest.
	recording bool
	record    []byte
}

func watch(opened source.Stream, progress *Progress) *watched {
	return &watched{Stream: opened, progress: progress, recording: true}
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	n, err := w.Stream.Read(p)
	w.progress.transferred.Add(int64(n))
	w.received.Store(w.Stream.Received())
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.recording {
		w.record = append(w.record, p[:n]...)
	}
	if err != nil && !errors.Is(err, io.EOF) && w.err == nil {
		w.err = err
	}
	return n, err
}

// recorded ends the recording and returns it.
func (w *watched) recorded() []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	record := w.record
	w.recording, w.record = false, nil
	return record
}

// Received implements source.Stream, also while the stream is read.
func (w *watched) Received() int64 { return w.received.Load() }

func (w *watched) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// begun is a source whose first stream has been read already: whoever opens it
// gets these bytes again. An upload's bytes come only once.
type begun struct {
	source.Source
	mu    sync.Mutex
	first source.Stream
}

// restarted makes a source of the rest of a stream and what was read of it.
func restarted(from source.Source, prefix []byte, rest source.Stream) source.Source {
	b := &begun{Source: from, first: &prefixed{Stream: rest, reader: io.MultiReader(bytes.NewReader(prefix), rest)}}
	if resumable, ok := from.(source.Resumable); ok {
		return &begunResumable{begun: b, resumable: resumable}
	}
	return b
}

// Open implements source.Source.
func (b *begun) Open(ctx context.Context) (source.Stream, error) {
	b.mu.Lock()
	first := b.first
	b.first = nil
	b.mu.Unlock()
	if first != nil {
		return first, nil
	}
	return b.Source.Open(ctx)
}

// begunResumable is begun for sources that can be read from the middle on.
type begunResumable struct {
	*begun
	resumable source.Resumable
}

// OpenAt implements source.Resumable.
func (b *begunResumable) OpenAt(ctx context.Context, offset int64, validator string) (source.Stream, error) {
	return b.resumable.OpenAt(ctx, offset, validator)
}

// prefixed is a stream with something before it.
type prefixed struct {
	source.Stream
	reader io.Reader
}

// Read implements io.Reader.
func (p *prefixed) Read(b []byte) (int, error) { return p.reader.Read(b) }
