// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package fill writes an image onto a volume as the disk that a guest sees.
//
// However the image comes, its file passes once, in order, and everything is
// done beside that:
//
//	raw, iso         source → (decompression) → volume
//	qcow2            source → scattered to the places that its tables name → volume
//	anything else    source → window → qemu-img → volume
//
// The tables of a qcow2 image are read at random before the pass; that both saw
// the same bytes is proved during it, so that a checksum covers the tables, too.
// An image that has to be read at random but cannot be is staged: imported into
// the registry, and read from there.
//
// Every chunk of the file is made durable before the checkpoint that counts it.
// Memory depends neither on the length of the file nor on the size of the disk,
// except for a qcow2 image's map.
package fill

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

// maxAttempts bounds how often an image is begun anew because it changed.
const maxAttempts = 5

// Fill writes the image onto the volume. Failures are of the packages report,
// source and image.
func Fill(ctx context.Context, options Options) (*report.Result, error) {
	return fillInSteps(ctx, options, usualSteps)
}

func fillInSteps(ctx context.Context, options Options, inSteps steps) (*report.Result, error) {
	f := &filling{Options: options.withDefaults(), steps: inSteps}
	began := f.Clock.Now()
	result, err := f.run(ctx)
	if err != nil {
		return nil, err
	}
	took := f.Clock.Since(began)
	result.TransferredBytes = f.received
	result.DurationSeconds = took.Round(time.Millisecond).Seconds()
	if took > 0 {
		result.AverageBytesPerSecond = int64(float64(f.received) / took.Seconds())
	}
	return result, nil
}

// filling is one call of Fill.
type filling struct {
	Options
	steps
	// received counts what came from the source, over all attempts.
	received int64
	// byTables is true once an image's grains have turned out not to be in order.
	byTables bool
}

// run begins as often as the image changes. What an earlier run has written is
// of use only for the first time.
func (f *filling) run(ctx context.Context) (*report.Result, error) {
	resume := f.Resume
	var err error
	for range maxAttempts {
		var result *report.Result
		if f.isOfStaging(resume) {
			result, err = f.stage(ctx, f.Source, resume)
		} else {
			result, err = f.attempt(ctx, resume)
		}
		var changed *source.ChangedError
		if !errors.As(err, &changed) {
			return result, err
		}
		resume = nil
		f.Logger.Info("beginning the image anew", "cause", changed.Why)
	}
	return nil, err
}

// isOfStaging tells that the checkpoint was made while the image was being staged: it
// knows of an upload, or of a file in the registry, but of no way to fill a volume.
func (f *filling) isOfStaging(c *report.Checkpoint) bool {
	if c == nil || c.Upload != "" {
		return c != nil
	}
	var remembered sink
	return f.Stage != nil && json.Unmarshal([]byte(c.Sink), &remembered) == nil && remembered.Method == ""
}

// attempt is one pass over the image.
func (f *filling) attempt(ctx context.Context, resume *report.Checkpoint) (*report.Result, error) {
	v, err := volume.Open(volume.Options{Path: f.Target, Size: f.Size, Continue: resume != nil})
	if err != nil {
		return nil, err
	}
	defer v.Close()
	sourceCtx, stop := context.WithCancel(ctx)
	p := &pass{filling: f, disk: &disk{Volume: v}, stop: stop}
	defer p.close()
	if resume != nil && v.Continued() {
		switch err := p.resume(sourceCtx, resume); {
		case err == nil:
			f.Logger.Info("continuing the image", "offset", p.start, "method", p.sink.Method)
			return p.run(ctx)
		case ctx.Err() != nil:
			return nil, ctx.Err()
		default:
			return nil, fmt.Errorf("continue the image: %w", err)
		}
	}
	if err := p.begin(sourceCtx); err != nil {
		return nil, p.cause(err)
	}
	return p.run(ctx)
}

// stage fills the volume from where the image is brought to first.
func (f *filling) stage(ctx context.Context, from source.Source, resume *report.Checkpoint) (*report.Result, error) {
	if f.Stage == nil {
		return nil, &image.Error{Kind: image.NotSupported,
			Message: "the image cannot be read at random where it is, which its format needs: publish it without compression on a server that supports ranges, or as a raw image"}
	}
	f.Progress.phase.Store(report.PhaseTransferring)
	staged, err := f.Stage(ctx, from, resume)
	if err != nil {
		return nil, err
	}
	f.received += staged.Received
	f.Logger.Info("the image is staged", "bytes", staged.Received)
	inner := &filling{Options: f.Options, steps: f.steps}
	// The staged bytes were verified on their way, and are read only once more.
	inner.Source, inner.Checksums, inner.Resume, inner.Stage = staged.Source, nil, nil, nil
	inner.Save = func(report.Checkpoint) {}
	result, err := inner.run(ctx)
	if err == nil || isPermanent(err) {
		if removed := staged.Remove(ctx); removed != nil {
			f.Logger.Warn("the staged image stays until its owner is deleted", "error", removed)
		}
	}
	return result, err
}

// isPermanent tells whether trying again would end the same way.
func isPermanent(err error) bool {
	var (
		failure    *report.Failure
		fromSource *source.Error
		fromImage  *image.Error
	)
	switch {
	case errors.As(err, &failure):
		return failure.Permanent
	case errors.As(err, &fromSource):
		return fromSource.Permanent
	}
	return errors.As(err, &fromImage)
}
