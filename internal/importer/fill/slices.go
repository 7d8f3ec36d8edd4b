// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/deckhouse/virtualization/internal/directio"
	"github.com/deckhouse/virtualization/internal/importer/fill/window"
	"github.com/deckhouse/virtualization/internal/importer/nbd"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

const (
	// exportName is what the image is called towards the converter.
	exportName = "image"
	// longSlice and shortSlice are how long it may take to convert a slice before the
	// next one is made half as large, or twice. A slice is what a crash costs; to
	// begin one costs the start of a program.
	longSlice, shortSlice = 10 * time.Second, 3 * time.Second
	// probes is in how many places a slice is looked at for something to prove it by.
	probes = 64
)

// convert lets the converter read the image through a window.
func (p *pass) convert(ctx context.Context) error {
	p.Progress.phase.Store(report.PhaseConverting)
	p.raw = stream.NewHashingReader(p.content, p.sums.list()...)
	if err := p.throughWindow(ctx, p.window); err != nil {
		return err
	}
	if end := p.sink.Image.VirtualSize; !p.disk.blank {
		if err := p.disk.Zero(ctx, end, p.disk.Size()-end); err != nil {
			return err
		}
	}
	if len(p.sums) == 0 {
		return nil // The stream was for the converter only, and need not end.
	}
	return p.verify()
}

// throughWindow runs the converter and the stream that it is served from. What the
// window fails with is the cause of all other errors.
func (p *pass) throughWindow(ctx context.Context, w *window.Window) error {
	var group errgroup.Group
	group.Go(func() error { return w.Run(p.raw) })
	group.Go(func() error {
		if err := p.inSlices(ctx, w); err != nil {
			// The window's own failure came first, if there is one.
			w.Abort(err)
			p.stop()
			return err
		}
		w.Finish()
		return nil
	})
	err := group.Wait()
	if cause := w.Failure(); cause != nil && ctx.Err() == nil {
		return cause
	}
	return err
}

// inSlices converts one part of the disk after the other. The converter cannot be
// stopped in the middle and go on there, but it can be run for a part only.
func (p *pass) inSlices(ctx context.Context, w *window.Window) error {
	size := p.sink.Image.VirtualSize
	length := p.slice
	if !p.canGoOn() {
		length = size
	}
	job := conversion{format: p.sink.Image.Format, virtualSize: size, disk: p.disk}
	for {
		job.part = span{p.sink.Converted, min(length, size-p.sink.Converted)}
		if job.part.length == size {
			job.part.length = 0 // One part is no part.
		}
		began := p.Clock.Now()
		spent, err := p.convertSlice(ctx, w, job)
		if err != nil {
			return err
		}
		if p.sink.Converted += job.part.length; job.part.length == 0 || p.sink.Converted == size {
			return nil
		}
		if err := p.keepSlice(w, job.part); err != nil {
			return err
		}
		job.spent += spent
		switch took := p.Clock.Since(began); {
		case took < shortSlice:
			length *= 2
		case took > longSlice:
			length = max(length/2, p.slice/4)
		}
	}
}

// convertSlice runs the converter once, with a server of its own: one that is there
// already would give it something of the image before it is bounded.
func (p *pass) convertSlice(ctx context.Context, w *window.Window, job conversion) (spent time.Duration, err error) {
	directory, err := os.MkdirTemp("", "fill")
	if err != nil {
		return 0, fmt.Errorf("make a directory for the converter's socket: %w", err)
	}
	defer os.RemoveAll(directory)
	job.socket, job.export = filepath.Join(directory, "image"), exportName
	listener, err := net.Listen("unix", job.socket)
	if err != nil {
		return 0, fmt.Errorf("make the converter's socket: %w", err)
	}
	defer listener.Close()
	serving, stop := context.WithCancel(ctx)
	defer stop()
	var group errgroup.Group
	spent, err = p.Converter.run(ctx, job, func() {
		group.Go(func() error {
			return (&nbd.Server{Export: exportName, Disk: w, Size: w.Size()}).Serve(serving, listener)
		})
	})
	stop()
	if err != nil {
		// A server that waits for the window would wait for ever.
		w.Abort(err)
		p.stop()
	}
	return spent, errors.Join(err, group.Wait())
}

// keepSlice makes what was converted durable, and then tells of it.
func (p *pass) keepSlice(w *window.Window, part span) error {
	if err := p.disk.Sync(); err != nil {
		return err
	}
	if err := p.disk.probe(part); err != nil {
		return err
	}
	kept := p.sink
	if kept.Written = p.disk.written.list(); len(kept.Written) == 0 {
		return nil // Nothing would tell this volume from a new one.
	}
	offset, testified := w.Testify()
	if len(p.sums) > 0 {
		if testified == nil {
			return nil
		}
		kept.Seen = testified
	}
	return p.keep(kept, offset, nil)
}

// probe remembers what is in some places of a part that somebody else has written.
func (d *disk) probe(part span) error {
	step := max(part.length/probes/sampleSize, 1) * sampleSize
	content := directio.Buffer(sampleSize)
	for at := part.offset; at <= part.offset+part.length-sampleSize; at += step {
		if _, err := d.ReadAt(content, at); err != nil {
			return err
		}
		d.written.add(content, at)
	}
	return nil
}

// restoreConversion decides where the stream begins. A checksum is of the whole file,
// which the converter has not seen in order: so all of it is read again, and has to
// be what the converter saw. Without one the stream is there for the converter only.
func (p *pass) restoreConversion() error {
	size := p.sink.Image.VirtualSize
	switch {
	case p.start < 0 || p.start%window.BlockSize != 0 || p.sink.Converted <= 0 || p.sink.Converted >= size || len(p.sink.Written) == 0:
		return errors.New("the conversion cannot go on from there")
	case len(p.sums) > 0 && p.sink.Seen == nil:
		return errors.New("nothing tells what the converter has seen before")
	case len(p.sums) > 0:
		p.start = 0
	}
	return nil
}

// resumeConversion looks at the image again: the converter begins anew to read it.
func (p *pass) resumeConversion() error {
	before := p.sink.Image
	if err := p.inspectWhole(); err != nil {
		return err
	}
	if p.sink.Image != before {
		return &source.ChangedError{Why: "the image is not the same as before"}
	}
	if len(p.sums) > 0 {
		return p.window.Expect(p.sink.Seen)
	}
	return nil
}
