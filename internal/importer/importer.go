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
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const (
	// maxPasses bounds how often an image is begun anew because it changed, or
	// because its length had to be measured first.
	maxPasses = 5
	// DefaultMaxSize bounds what a compressed or unsized stream may grow to.
	DefaultMaxSize = 2 << 40
)

// Options of one import.
type Options struct {
	// Source of the image.
	Source source.Source
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

	// Reporter gets the progress; it may be nil.
	Reporter *Reporter
	Clock    clock.Clock
	Logger   *slog.Logger
}

// Run imports the image. A failure is a *report.Failure.
func Run(ctx context.Context, options Options) (*report.Result, error) {
	if options.MaxSize == 0 {
		options.MaxSize = DefaultMaxSize
	}
	began := options.Clock.Now()
	result, received, err := runPasses(ctx, options)
	if err != nil {
		return nil, failureOf(ctx, err)
	}
	took := options.Clock.Since(began)
	result.TransferredBytes = received
	result.DurationSeconds = took.Round(time.Millisecond).Seconds()
	result.AverageBytesPerSecond = rate(received, took)
	return result, nil
}

// runPasses begins the image as often as it takes. A size that one pass found
// out is what the next one announces to the registry.
func runPasses(ctx context.Context, options Options) (result *report.Result, received int64, err error) {
	size := int64(source.UnknownSize)
	for range maxPasses {
		p := &pass{options: options, size: size}
		result, err = p.run(ctx)
		received += p.received
		var changed *source.ChangedError
		switch {
		case err == nil && result != nil:
			return result, received, nil
		case err == nil:
			size = p.size
			options.Logger.Info("measured the image, whose length the source does not tell", "bytes", size)
		case errors.As(err, &changed):
			size = source.UnknownSize
			options.Logger.Info("beginning the image anew", "cause", changed.Why)
		default:
			return nil, received, err
		}
	}
	if err == nil {
		err = &source.ChangedError{Why: "the image changes all the time"}
	}
	return nil, received, err
}

func rate(bytes int64, took time.Duration) int64 {
	if took <= 0 {
		return 0
	}
	return int64(float64(bytes) / took.Seconds())
}
