// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr"
)

// patience bounds how long the registry may be away at a time: its pod is moved
// or restarted now and then.
type patience struct {
	run   *run
	until time.Time
	pause time.Duration
}

func (r *run) newPatience() *patience {
	return &patience{run: r, until: r.Clock.Now().Add(r.RegistryPatience), pause: firstPause}
}

// wait pauses before the registry is asked again. It returns the cause if that
// makes no sense, or not any more.
func (p *patience) wait(ctx context.Context, cause error) error {
	for _, lasting := range []error{dvcr.ErrFull, dvcr.ErrDenied, dvcr.ErrUploadUnknown, dvcr.ErrMismatch} {
		if errors.Is(cause, lasting) {
			return cause
		}
	}
	if ctx.Err() != nil || !p.run.Clock.Now().Add(p.pause).Before(p.until) {
		return cause
	}
	p.run.Logger.Warn("the image registry fails, it is asked again soon", "error", cause, "in", p.pause)
	if err := p.run.wait(ctx, p.pause); err != nil {
		return cause
	}
	p.pause = min(2*p.pause, longestPause)
	return nil
}

// patiently calls until it succeeds or there is no sense in it.
func (r *run) patiently(ctx context.Context, call func() error) error {
	patience := r.newPatience()
	for {
		err := call()
		if err == nil {
			return nil
		}
		if err := patience.wait(ctx, err); err != nil {
			return err
		}
	}
}
