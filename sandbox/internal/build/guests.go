// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"path/filepath"

	"github.com/deckhouse/virtualization/sandbox/internal/guest"
)

const guestsTarget = "guests"

// workshop lends the builder's means to the package that makes guests.
type workshop struct{ builder *Builder }

var _ guest.Workshop = workshop{}

// Cached implements guest.Workshop.
func (w workshop) Cached(ctx context.Context, kind, name, key string, create func(ctx context.Context, dir string) error) (string, error) {
	return w.builder.cache.Ensure(ctx, kind, name, key, create)
}

// Bootstrap implements guest.Workshop.
func (w workshop) Bootstrap(ctx context.Context, what, suite, target string, options ...string) error {
	return w.builder.bootstrap(ctx, what, suite, target, options...)
}

// Step implements guest.Workshop.
func (w workshop) Step(what string, work func(note func(string)) error) (err error) {
	step := w.builder.step(what)
	defer func() { step.end(err) }()
	return work(step.note)
}

// Guests makes the disks that guests boot from, and some files that are none.
func (b *Builder) Guests(ctx context.Context) ([]guest.Result, error) {
	return guest.Build(ctx, workshop{b}, filepath.Join(b.repoRoot, "sandbox", "guests"))
}

func (b *Builder) guests(ctx context.Context) ([]Result, error) {
	made, err := b.Guests(ctx)
	if err != nil {
		return nil, err
	}
	var results []Result
	for _, result := range made {
		results = append(results, Result{Name: guestsTarget, Path: result.Dir})
	}
	return results, nil
}
