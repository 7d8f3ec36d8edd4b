// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"errors"
	"sync"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

const (
	// zeroUnit is the granularity in which zeros are left out: coarse enough that
	// a file is not torn into small pieces.
	zeroUnit = 64 << 10
	// parallelWrites keep a volume behind a network busy.
	parallelWrites = 4
)

// disk is the volume as the ways of filling it see it.
type disk struct {
	*volume.Volume
	// blank is true if the volume reads as zeros wherever nothing was written.
	blank   bool
	written samples
}

// put writes and remembers it.
func (d *disk) put(p []byte, offset int64) error {
	if _, err := d.WriteAt(p, offset); err != nil {
		return err
	}
	d.written.add(p, offset)
	return nil
}

// write writes what is not zero, and zeros only where there may be something
// else.
func (d *disk) write(p []byte, offset int64) error {
	if !d.blank {
		return d.put(p, offset)
	}
	for len(p) > 0 {
		skip, length := 0, 0
		for skip < len(p) && volume.IsZero(p[skip:min(skip+zeroUnit, len(p))]) {
			skip = min(skip+zeroUnit, len(p))
		}
		for skip+length < len(p) && !volume.IsZero(p[skip+length:min(skip+length+zeroUnit, len(p))]) {
			length = min(length+zeroUnit, len(p)-skip)
		}
		if length > 0 {
			if err := d.put(p[skip:skip+length], offset+int64(skip)); err != nil {
				return err
			}
		}
		p, offset = p[skip+length:], offset+int64(skip+length)
	}
	return nil
}

// footerSize is what a fixed VHD has behind the disk.
const footerSize = 512

// errTooLong ends a file that is longer than the disk.
var errTooLong = errors.New("the file is longer than the disk")

// plain is the consumer for an image whose file is the disk itself.
type plain struct {
	disk    *disk
	workers *workers
	// limit is the length of the disk; only a footer may be behind it.
	limit int64
	// tail is the end of the file so far.
	tail []byte
}

func newPlain(d *disk, limit int64) *plain {
	return &plain{disk: d, workers: newWorkers(parallelWrites), limit: limit}
}

func (w *plain) take(ctx context.Context, p *piece) error {
	if p.end() > w.limit+footerSize {
		return errTooLong
	}
	w.tail = append(w.tail, p.data[max(0, len(p.data)-image.TailSize):]...)
	w.tail = w.tail[max(0, len(w.tail)-image.TailSize):]
	if p.zero && w.disk.blank {
		return nil
	}
	content := p.data[:min(p.end(), max(w.limit, p.offset))-p.offset]
	p.retain()
	err := w.workers.do(ctx, func() error {
		defer p.release()
		if p.zero {
			return w.disk.Zero(ctx, p.offset, int64(len(content)))
		}
		return w.disk.write(content, p.offset)
	})
	if err != nil {
		p.release()
	}
	return err
}

// settle makes the rest of the volume zero when the file has ended.
func (w *plain) settle(ctx context.Context, m *mark) error {
	err := w.workers.wait()
	m.written = w.disk.written.list()
	if err != nil || !m.last || w.disk.blank {
		return err
	}
	end := min(m.offset, w.disk.Size())
	return w.disk.Zero(ctx, end, w.disk.Size()-end)
}

// workers run jobs beside a consumer, a bounded number at once.
type workers struct {
	slots chan struct{}
	jobs  sync.WaitGroup

	mu  sync.Mutex
	err error
}

func newWorkers(count int) *workers { return &workers{slots: make(chan struct{}, count)} }

// do starts a job as soon as there is a slot. It returns the error of an earlier
// job; then, and when ctx ends, the job is not run.
func (w *workers) do(ctx context.Context, job func() error) error {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := w.failure(); err != nil {
		<-w.slots
		return err
	}
	w.jobs.Go(func() {
		defer func() { <-w.slots }()
		if err := job(); err != nil {
			w.fail(err)
		}
	})
	return nil
}

// wait returns when no job is left.
func (w *workers) wait() error {
	w.jobs.Wait()
	return w.failure()
}

func (w *workers) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *workers) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
