// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/progress"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

const (
	// maxPasses bounds how often an image is begun anew because it changed, or
	// because its length had to be measured first.
	maxPasses = 5
	// DefaultMaxSize bounds what a compressed or unsized stream may grow to.
	DefaultMaxSize = 2 << 40
	// DefaultChunkSize is how much is sent to the registry at once, and so the
	// most that is sent again after whatever breaks. The source is asked again for
	// that and for what was read ahead: 64 MiB at most.
	DefaultChunkSize = 32 << 20
	// readAhead is how far the source is read beyond the chunk under way.
	readAhead = 32 << 20
)

// Options of one import.
type Options struct {
	// Source of the image.
	Source source.Source
	// SinglePass tells that the source's bytes come only once: those of a file
	// whose length in the registry is not known beforehand are parked there first.
	SinglePass bool
	// Fields leads to the source in the owner's spec.
	Fields Fields
	// Checksums that the source's bytes must have, before any decompression.
	Checksums []image.Checksum
	// MaxSize bounds the bytes of an image whose length is not known in advance.
	MaxSize int64

	// Destination is the reference of the image in the registry; its tag is the
	// uid of the owner.
	Destination string
	// Token gives access to the destination.
	Token dvcr.TokenSource
	// Transport reaches the registry.
	Transport http.RoundTripper
	// ChunkSize is a multiple of stream.WindowUnit.
	ChunkSize int64
	// RegistryPatience is how long the registry may be away at a time.
	RegistryPatience time.Duration

	// Resume is where an earlier importer came to; nil to begin with the first byte.
	Resume *report.Checkpoint
	// Save gets every new checkpoint, one at a time; see progress.Checkpoints. If it is nil
	// nothing is left in the registry for another importer.
	Save func(report.Checkpoint)
	// Retries is how often in a row the import goes on after a failure that may
	// pass, RetryDelay the pause before the first time, doubled each time.
	Retries    int
	RetryDelay time.Duration
	// Retried is called before each of them; it may be nil.
	Retried func()

	// Status is kept up to date; it may be nil.
	Status *progress.Status
	// Reporter gets the status; it may be nil.
	Reporter *progress.Reporter
	Clock    clock.Clock
	Logger   *slog.Logger
}

func (o Options) withDefaults() Options {
	if o.MaxSize == 0 {
		o.MaxSize = DefaultMaxSize
	}
	if o.ChunkSize == 0 {
		o.ChunkSize = DefaultChunkSize
	}
	if o.Fields == (Fields{}) {
		o.Fields = HTTPFields
	}
	if o.Status == nil {
		o.Status = &progress.Status{}
	}
	return o
}

// Run imports the image. A failure is a *report.Failure.
func Run(ctx context.Context, options Options) (*report.Result, error) {
	o := options.withDefaults()
	began := o.Clock.Now()
	stop := o.Reporter.Follow(ctx, o.Status)
	defer stop()
	r := &run{Options: o, size: source.UnknownSize, resume: o.Resume}
	result, err := r.passes(ctx)
	if err != nil {
		return nil, failureOf(ctx, err, o.Fields)
	}
	took := o.Clock.Since(began)
	result.TransferredBytes = r.received
	result.DurationSeconds = took.Round(time.Millisecond).Seconds()
	result.AverageBytesPerSecond = progress.Rate(r.received, took)
	return result, nil
}

// run is one call of Run.
type run struct {
	Options
	// size that one pass found out is what the next one announces to the
	// registry; unguessed forbids to take a compressed file's word for it.
	size      int64
	unguessed bool
	// resume is where the next pass goes on.
	resume   *report.Checkpoint
	received int64
	// parked is the digest of the source's file in the registry, if it had to be
	// brought there first.
	parked string
	// anew and failures count the reasons for a further pass.
	anew, failures int
}

// passes begins or continues the image as often as it takes.
func (r *run) passes(ctx context.Context) (*report.Result, error) {
	for {
		p := &pass{run: r}
		before := offsetOf(r.resume)
		result, err := p.execute(ctx)
		r.received += p.received
		switch {
		case err == nil && result != nil:
			return result, nil
		case err == nil && p.size == source.UnknownSize:
			continue // The file is parked.
		case err == nil:
			r.size = p.size
			r.Logger.Info("measured the image, whose length the source does not tell", "bytes", r.size)
			continue
		}
		if offsetOf(r.resume) > before {
			r.failures = 0
		}
		if again, decided := r.decide(ctx, err); !again {
			return nil, decided
		}
	}
}

func offsetOf(c *report.Checkpoint) int64 {
	if c == nil {
		return 0
	}
	return c.Offset
}

// decide tells whether there is another pass after a failure, and waits for it.
func (r *run) decide(ctx context.Context, err error) (again bool, failure error) {
	var changed *source.ChangedError
	if errors.As(err, &changed) {
		r.size, r.resume, r.unguessed = source.UnknownSize, nil, true
		if r.anew++; r.anew >= maxPasses {
			return false, &source.ChangedError{Why: "the image changes all the time, the last time: " + changed.Why}
		}
		r.Logger.Info("beginning the image anew", "cause", changed.Why)
		return true, nil
	}
	verdict := failureOf(ctx, err, r.Fields)
	passes := verdict.Reason == report.SourceUnreachable || verdict.Reason == report.RegistryUnavailable
	if ctx.Err() != nil || verdict.Permanent || !passes || r.failures >= r.Retries {
		return false, err
	}
	delay := r.RetryDelay << r.failures
	r.failures++
	r.Status.Failed(verdict)
	r.Logger.Warn("the import failed and goes on soon", "reason", verdict.Reason, "message", verdict.Message, "in", delay)
	if r.wait(ctx, delay) != nil {
		return false, err
	}
	if r.Retried != nil {
		r.Retried()
	}
	return true, nil
}

// wait pauses, and lets the status say until when.
func (r *run) wait(ctx context.Context, delay time.Duration) error {
	r.Status.Waiting(r.Clock.Now().Add(delay))
	select {
	case <-r.Clock.After(delay):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// save keeps a checkpoint for the next pass and for the next importer.
func (r *run) save(c report.Checkpoint) {
	r.resume = &c
	if r.Save != nil {
		r.Save(c)
	}
}

// windowOptions of a stream that begins at an offset.
func (r *run) windowOptions(start, size int64) stream.WindowOptions {
	// A small image has no use for a large window.
	most := (size-start)/stream.WindowUnit*stream.WindowUnit + 2*stream.WindowUnit
	return stream.WindowOptions{Start: start, Every: r.ChunkSize, Capacity: max(r.ChunkSize, min(r.ChunkSize+readAhead, most))}
}
