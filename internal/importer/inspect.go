// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"fmt"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// inspect only tells what the image is, without moving it.
func (j *job) inspect(ctx context.Context) (*report.Result, error) {
	j.logger.Info("inspecting", "source", fmt.Sprint(j.source))
	result, err := Inspect(ctx, j.source, j.options(""))
	if err != nil {
		return nil, failureOf(ctx, err, j.config.fields())
	}
	return result, nil
}

// Inspect reads as little as it takes to tell what the image is: its format, its
// size as a guest sees it and the size of its file, which is 0 if only reading
// all of it would tell.
func Inspect(ctx context.Context, from source.Source, options Options) (*report.Result, error) {
	if options.Clock == nil {
		options.Clock = clock.RealClock{}
	}
	result, err := inspectRanged(ctx, from)
	if result != nil || err != nil {
		return result, err
	}
	ctx, stop := context.WithCancel(ctx)
	p := &pass{run: &run{Options: options.withDefaults(), size: source.UnknownSize}, size: source.UnknownSize}
	defer p.close(stop)
	opened, err := from.Open(ctx)
	if err != nil {
		return nil, err
	}
	p.Source, p.stream = from, &rememberingStream{Stream: opened}
	info, err := p.inspectStream(ctx)
	if err != nil {
		return nil, p.rootCause(err)
	}
	return resultOf(info, p.size), nil
}

// inspectRanged looks at all parts of the file that the format's tables name. It
// returns nothing for compressed files and those that cannot be read at random.
func inspectRanged(ctx context.Context, from source.Source) (*report.Result, error) {
	ranged, ok := from.(source.Ranged)
	if !ok {
		return nil, nil
	}
	opened, err := ranged.OpenRanged(ctx)
	if errors.Is(err, source.ErrNotRanged) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	defer opened.Close()
	magic := make([]byte, min(stream.MagicSize, opened.Size()))
	if n, err := opened.ReadAt(magic, 0); n < len(magic) {
		return nil, err
	}
	if stream.Compression(magic) != "" {
		return nil, nil
	}
	info, err := image.InspectAt(opened, opened.Size())
	if err != nil {
		return nil, err
	}
	return resultOf(info, opened.Size()), nil
}

// inspectStream looks at the head, and at the rest only if nothing else tells
// how long the disk is.
func (p *pass) inspectStream(ctx context.Context) (image.Info, error) {
	content, err := p.openContent(ctx)
	if err != nil {
		return image.Info{}, err
	}
	head, info, err := p.inspectHead(content)
	if err != nil || info.VirtualSize > 0 {
		return info, err
	}
	rest, err := p.count(content)
	if err != nil {
		return info, err
	}
	p.size = int64(len(head)) + rest
	return image.Inspect(head, p.size)
}

func resultOf(info image.Info, size int64) *report.Result {
	return &report.Result{
		Format: string(info.Format), VirtualSizeBytes: info.VirtualSize, StoredSizeBytes: max(size, 0), CDROM: info.CDROM,
	}
}
