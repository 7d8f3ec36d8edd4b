// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package build makes everything that the sandbox runs: pinned releases of other
// projects, the module's own programs, Debian root file systems and images.
//
// Each step is keyed by a hash of what goes into it and kept in the cache under
// that key, so a second run makes nothing. Our own programs are the exception:
// the go command knows best what changed, so it is asked every time.
package build

import (
	"context"
	"fmt"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// Builder makes things and keeps them in the cache of a state folder.
type Builder struct {
	stateDir  string
	repoRoot  string
	cache     *cache
	toolchain toolchain
	progress  func(string)
	interval  time.Duration
	rootMutex sync.Mutex
}

var _ image.Inputs = (*Builder)(nil)

// New prepares a builder. Its cache is <stateDir>/cache; repoRoot is the folder
// of the repository; progress gets a line at least every half minute as long as
// something is being made, and may be called by several goroutines.
func New(stateDir, repoRoot string, progress func(string)) (*Builder, error) {
	// Programs start in other folders than this one.
	stateDir, err := filepath.Abs(stateDir)
	if err != nil {
		return nil, err
	}
	if repoRoot, err = filepath.Abs(repoRoot); err != nil {
		return nil, err
	}
	tools, err := askToolchain(context.Background())
	if err != nil {
		return nil, fmt.Errorf("asking the go command for its settings: %w", err)
	}
	return &Builder{
		stateDir:  stateDir,
		repoRoot:  repoRoot,
		toolchain: tools,
		progress:  progress,
		interval:  progressInterval,
		cache: &cache{
			dir:      filepath.Join(stateDir, "cache"),
			clock:    clock.RealClock{},
			progress: progress,
		},
	}, nil
}

// Programs compiles Go commands: those of a pinned module all at once, those of
// our own modules as named.
func (b *Builder) Programs(ctx context.Context, programs []image.Program) (map[image.Program]image.Artifact, error) {
	made := map[image.Program]image.Artifact{}
	for module, packages := range byModule(programs) {
		p, err := loadPinned(b.repoRoot, module)
		if err != nil {
			return nil, err
		}
		if p == nil {
			err = b.ownPrograms(ctx, module, packages, made)
		} else {
			err = b.pinnedPrograms(ctx, module, packages, made)
		}
		if err != nil {
			return nil, err
		}
	}
	return made, nil
}

func byModule(programs []image.Program) map[string][]string {
	modules := map[string][]string{}
	for _, program := range programs {
		modules[program.Module] = append(modules[program.Module], program.Package)
	}
	return modules
}

func (b *Builder) ownPrograms(ctx context.Context, module string, packages []string, made map[image.Program]image.Artifact) error {
	dir, err := b.own(ctx, module, packages)
	if err != nil {
		return err
	}
	for _, pkg := range packages {
		path := filepath.Join(dir, commandName(pkg))
		// Many changes of a source do not change the program, so what was made of
		// it need not be made again.
		sum, err := hashFile(path)
		if err != nil {
			return err
		}
		made[image.Program{Module: module, Package: pkg}] = image.Artifact{Path: path, Key: sum}
	}
	return nil
}

func (b *Builder) pinnedPrograms(ctx context.Context, module string, packages []string, made map[image.Program]image.Artifact) error {
	r, err := b.release(ctx, module)
	if err != nil {
		return err
	}
	names := map[string]string{}
	for name, pkg := range r.programs() {
		names[pkg] = name
	}
	for _, pkg := range packages {
		name, found := names[pkg]
		if !found {
			return fmt.Errorf("%s/go.mod has no tool %s: add it", module, pkg)
		}
		made[image.Program{Module: module, Package: pkg}] = image.Artifact{Path: filepath.Join(r.dir, name), Key: r.key + name}
	}
	return nil
}
