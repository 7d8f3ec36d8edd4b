// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// Prefetch starts to fetch the Debian roots that targets will need, while others
// compile: one waits for the network, the others for the processor. The channel
// is closed at the end. An error is nobody's here: whoever needs the root tries
// again and meets it.
func (b *Builder) Prefetch(ctx context.Context, targets ...string) <-chan struct{} {
	done := make(chan struct{})
	go func() {
		defer close(done)
		for _, target := range targets {
			if b.fetchRootsOf(ctx, target) != nil {
				return
			}
		}
	}()
	return done
}

func (b *Builder) fetchRootsOf(ctx context.Context, target string) error {
	dir, found := releases[target]
	if found {
		return b.fetchBuildRoot(ctx, dir)
	}
	if target == guestsTarget {
		// Making a guest is mostly waiting for the network too.
		_, err := b.Guests(ctx)
		return err
	}
	if target == prometheusTarget {
		_, err := b.PackageRoot(ctx, buildSuite, prometheusPackages)
		return err
	}
	if target != imagesTarget {
		return nil
	}
	set, err := image.LoadSet(filepath.Join(b.repoRoot, imagesDir))
	if err != nil {
		return err
	}
	for _, name := range set.Names() {
		definition, err := set.Get(name)
		if err != nil {
			return err
		}
		for _, program := range definition.Build {
			if err := b.fetchBuildRoot(ctx, program.Module); err != nil {
				return err
			}
		}
		if definition.Debian == nil {
			continue
		}
		if _, err := b.PackageRoot(ctx, definition.Debian.Suite, definition.Debian.Packages); err != nil {
			return err
		}
	}
	return nil
}

// fetchBuildRoot fetches the build root if a module has still to be compiled in it.
func (b *Builder) fetchBuildRoot(ctx context.Context, dir string) error {
	if !strings.HasPrefix(dir, "third_party/") {
		return nil
	}
	p, sum, err := b.releaseKey(dir)
	if err != nil || !p.recipe.Cgo || b.cache.use(b.cache.path(releaseKind, p.name(), sum)) {
		return err
	}
	_, err = b.buildRoot(ctx)
	return err
}
