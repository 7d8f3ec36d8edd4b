// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"io"
	"log/slog"
	"sync/atomic"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// Options of filling one volume.
type Options struct {
	// Source of the image.
	Source source.Source
	// Checksums that the source's bytes must have, before any decompression.
	Checksums []image.Checksum

	// Target is a block device, or a directory that is to hold the disk's file.
	Target string
	// Size of the guest's disk in bytes; 0 means all of a device.
	Size int64

	// Stage brings an image that cannot be read at random to where it can. It
	// has to compare the checksums. Without it such images are refused.
	Stage Stage
	// Converter reads the formats that nothing here reads.
	Converter Converter

	// Resume is where an earlier run came to; nil to begin with the first byte.
	Resume *report.Checkpoint
	// Save gets every new checkpoint, one at a time. What identifies the order,
	// counts attempts and orders checkpoints is left to it.
	Save func(report.Checkpoint)

	// Progress is kept up to date for whoever wants to tell it.
	Progress *Progress
	Clock    clock.Clock
	Logger   *slog.Logger
}

// Stage imports the image of from, which may have been begun to be read. resume
// is the checkpoint of an earlier staging, else nil.
type Stage func(ctx context.Context, from source.Source, resume *report.Checkpoint) (*Staged, error)

// Staged is an image that can be read at random, for as long as it takes.
type Staged struct {
	Source source.Ranged
	// Received counts the bytes that staging took from the first source.
	Received int64
	// Remove deletes the image; it is called when nobody will ask for it again.
	Remove func(ctx context.Context) error
}

// Progress is how far the filling is. It may be read at any time.
type Progress struct {
	transferred, total atomic.Int64
	phase              atomic.Value
}

// Transferred counts the bytes of the source's file that have passed.
func (p *Progress) Transferred() int64 { return p.transferred.Load() }

// Total is the length of the source's file, 0 while it is not known.
func (p *Progress) Total() int64 { return p.total.Load() }

// Phase is one of the constants of package report that begin with Phase.
func (p *Progress) Phase() string {
	phase, _ := p.phase.Load().(string)
	return phase
}

// begin counts anew from an offset on.
func (p *Progress) begin(phase string, offset, total int64) {
	p.phase.Store(phase)
	p.transferred.Store(offset)
	p.total.Store(max(total, 0))
}

func (o Options) withDefaults() Options {
	if o.Converter.Command == "" {
		o.Converter = DefaultConverter
	}
	if o.Save == nil {
		o.Save = func(report.Checkpoint) {}
	}
	if o.Progress == nil {
		o.Progress = &Progress{}
	}
	if o.Clock == nil {
		o.Clock = clock.RealClock{}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	return o
}
