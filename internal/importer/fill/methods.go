// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/nbd"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// plain writes a file that is the disk itself.
func (p *pass) plain(ctx context.Context) error {
	end, err := p.pipeline(newPlain(p.disk, p.fits)).run(ctx, p.content, p.start)
	if err != nil {
		return err
	}
	if p.size() == source.UnknownSize {
		// What depends on the length is known only now.
		if p.sink.Image, err = image.Inspect(p.head, end); err != nil {
			return err
		}
	}
	return p.verify()
}

// scatter brings a qcow2 image's clusters to their places.
func (p *pass) scatter(ctx context.Context) error {
	s, stop, err := newScatter(p.disk, p.structure, p.start, p.ranged)
	if err != nil {
		return err
	}
	defer stop()
	l := p.pipeline(s, p.witness)
	l.beside = s.zero
	if _, err := l.run(ctx, p.content, p.start); err != nil {
		return err
	}
	return p.verify()
}

// pipeline joins the consumers with the hashes of the file.
func (p *pass) pipeline(consumers ...consumer) *pipeline {
	if p.compression == "" {
		for name, sum := range p.sums {
			consumers = append(consumers, &hasher{name: name, sum: sum})
		}
	}
	return &pipeline{steps: p.steps, consumers: consumers, reach: p.reach, interrupt: p.stop}
}

// reach makes what was written durable, and then tells of it.
func (p *pass) reach(_ context.Context, m *mark) error {
	if m.last {
		return nil // The end has its own way.
	}
	if err := p.disk.Sync(); err != nil {
		return err
	}
	if _, ok := p.Source.(source.Resumable); !ok || p.size() == source.UnknownSize || p.stream.Validator() == "" {
		return nil
	}
	remembered, err := json.Marshal(p.sink)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	p.Save(report.Checkpoint{
		Validator: p.stream.Validator(), Offset: m.offset, Size: p.size(), Hashes: m.hashes, Sink: string(remembered),
	})
	return nil
}

// verify reads what a decompressor left of the file, because a checksum covers
// the whole, and compares.
func (p *pass) verify() error {
	if p.raw != nil {
		if _, err := io.Copy(io.Discard, p.raw); err != nil {
			return err
		}
		p.raw.Wait()
	}
	return p.sums.check(p.Checksums)
}

// handOver gives the stream away, as if nothing had been read of it.
func (p *pass) handOver() source.Source {
	if p.raw != nil {
		p.raw.Close()
		p.raw.Wait()
		p.raw = nil
	}
	first := restarted(p.Source, p.stream.recorded(), p.stream)
	p.stream = nil
	return first
}

// exportName is what the image is called towards the converter.
const exportName = "image"

// convert lets the converter read the image through a window.
func (p *pass) convert(ctx context.Context) error {
	directory, err := os.MkdirTemp("", "fill")
	if err != nil {
		return fmt.Errorf("make a directory for the converter's socket: %w", err)
	}
	defer os.RemoveAll(directory)
	socket := filepath.Join(directory, "image")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		return fmt.Errorf("make the converter's socket: %w", err)
	}
	defer listener.Close()
	p.Progress.phase.Store(report.PhaseConverting)
	p.raw = stream.NewHashingReader(p.content, p.sums.list()...)
	w := newWindow(p.ranged, p.ranged.Size(), p.head, len(p.sums) > 0)
	job := conversion{format: p.sink.Image.Format, virtualSize: p.sink.Image.VirtualSize, socket: socket, export: exportName, disk: p.disk}
	if err := p.throughWindow(ctx, w, listener, job); err != nil {
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

// throughWindow runs the converter, the server it reads from and the stream
// behind that. What the window fails with is the cause of all other errors.
func (p *pass) throughWindow(ctx context.Context, w *window, listener net.Listener, job conversion) error {
	serving, stopServing := context.WithCancel(ctx)
	defer stopServing()
	var group errgroup.Group
	group.Go(func() error { return w.run(p.raw) })
	group.Go(func() error {
		defer stopServing()
		err := p.Converter.run(ctx, job, func() {
			group.Go(func() error {
				return (&nbd.Server{Export: exportName, Disk: w, Size: w.size}).Serve(serving, listener)
			})
		})
		if err != nil {
			// The window's own failure came first, if there is one.
			w.abort(err)
			p.stop()
			return err
		}
		w.finish()
		return nil
	})
	err := group.Wait()
	if cause := w.failure(); cause != nil && ctx.Err() == nil {
		return cause
	}
	return err
}

// fits fails for an image whose disk is larger than the volume may hold.
func (p *pass) fits(length int64) error {
	limit := p.Size
	if limit == 0 {
		limit = p.disk.Size()
	}
	if length <= limit {
		return nil
	}
	message := fmt.Sprintf("the image's disk has %d bytes but this disk has %d: %d are missing; set spec.persistentVolumeClaim.size to at least %s",
		length, limit, length-limit, quantity(length))
	if p.size() == source.UnknownSize {
		message = fmt.Sprintf("the image's disk has more than the %d bytes that this disk has, how many is not known in advance; set spec.persistentVolumeClaim.size to more than %s",
			limit, quantity(limit))
	}
	return &report.Failure{Reason: report.VolumeTooSmall, Permanent: true, Field: "spec.persistentVolumeClaim.size", Message: message}
}

// quantity writes a size as one would in a manifest, rounded up.
func quantity(size int64) string {
	for _, unit := range []struct {
		suffix string
		shift  int
	}{{"Gi", 30}, {"Mi", 20}} {
		if size >= 10<<unit.shift || size%(1<<unit.shift) == 0 {
			return fmt.Sprintf("%d%s", (size+1<<unit.shift-1)>>unit.shift, unit.suffix)
		}
	}
	return fmt.Sprintf("%dMi", (size+1<<20-1)>>20)
}

// contentError gives a failure to read the image's content a reason.
func (p *pass) contentError(err error) error {
	var failure *report.Failure
	switch {
	case errors.Is(err, stream.ErrLength):
		return &source.ChangedError{Why: "the image has another length than before"}
	case p.compression == "" || errors.As(err, &failure) || errors.Is(err, context.Canceled) || isTyped(err):
		return err
	}
	return &report.Failure{Reason: report.ImageCorrupt, Permanent: true,
		Message: fmt.Sprintf("the image cannot be decompressed (%s): %v; check the file, or publish it without compression", p.compression, err)}
}

// isTyped tells whether an error has a meaning of its own.
func isTyped(err error) bool {
	var (
		fromSource *source.Error
		changed    *source.ChangedError
		mismatch   *image.MismatchError
		fromImage  *image.Error
	)
	return errors.As(err, &fromSource) || errors.As(err, &changed) || errors.As(err, &mismatch) || errors.As(err, &fromImage)
}
