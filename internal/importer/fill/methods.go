// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// plain writes a file that is the disk itself.
func (p *pass) plain(ctx context.Context) error {
	writer := newPlain(p.disk, p.limit())
	end, err := p.pipeline(writer).run(ctx, p.content, p.start)
	if errors.Is(err, errTooLong) {
		return p.fits(end)
	} else if err != nil {
		return err
	}
	if err := p.judge(writer.tail, end); err != nil {
		return err
	}
	// The footer of a fixed VHD has no place on the disk.
	if rest := min(end, p.disk.Size()) - p.sink.Image.VirtualSize; rest > 0 {
		if err := p.disk.Zero(ctx, p.sink.Image.VirtualSize, rest); err != nil {
			return err
		}
	}
	return p.verify()
}

// judge inspects a file again that has come to its end. What an earlier run has
// seen of its beginning and its end is on the disk.
func (p *pass) judge(tail []byte, end int64) (err error) {
	if p.head == nil {
		p.head = make([]byte, min(image.HeadSize, end, p.disk.Size()))
		if _, err := p.disk.ReadAt(p.head, 0); err != nil {
			return err
		}
	}
	if missing := min(image.TailSize, end) - int64(len(tail)); missing > 0 {
		before := make([]byte, missing)
		if _, err := p.disk.ReadAt(before, end-int64(len(tail))-missing); err != nil {
			return err
		}
		tail = append(before, tail...)
	}
	if p.sink.Image, err = image.InspectTail(p.head, tail, end); err != nil {
		return err
	}
	return p.fits(p.sink.Image.VirtualSize)
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
	if !p.canGoOn() {
		return nil
	}
	kept := p.sink
	kept.Written, kept.Grains = m.written, m.grains
	return p.keep(kept, m.offset, m.hashes)
}

// canGoOn tells whether a checkpoint would be of use.
func (p *pass) canGoOn() bool {
	_, ok := p.Source.(source.Resumable)
	return ok && p.size() != source.UnknownSize && p.stream.Validator() != ""
}

func (p *pass) keep(kept sink, offset int64, hashes map[string][]byte) error {
	remembered, err := json.Marshal(kept)
	if err != nil {
		return fmt.Errorf("encode the checkpoint: %w", err)
	}
	p.Save(report.Checkpoint{Validator: p.stream.Validator(), Offset: offset, Size: p.size(), Hashes: hashes, Sink: string(remembered)})
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

// limit is how large the guest's disk is.
func (p *pass) limit() int64 {
	if p.Size == 0 {
		return p.disk.Size()
	}
	return p.Size
}

// fitsSoFar is fits before the whole image was seen: the last sector of a raw
// one may turn out to be no part of the disk.
func (p *pass) fitsSoFar() error {
	length := p.sink.Image.VirtualSize
	if p.sink.Image.Format == image.FormatRaw && length-footerSize <= p.limit() {
		return nil
	}
	return p.fits(length)
}

// fits fails for an image whose disk is larger than the one to fill.
func (p *pass) fits(length int64) error {
	limit := p.limit()
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
	return &image.Error{Kind: image.Corrupt,
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
