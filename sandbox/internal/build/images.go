// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

const (
	// Repository is where the module's images are said to be: in a cluster of the
	// sandbox an image is called Repository@digest. Nothing serves that address;
	// every node has the images already.
	Repository = "registry.sandbox.internal/modules/virtualization"
	// SandboxRepository is the same for the sandbox's own images, which are called
	// SandboxRepository/NAME:SandboxTag.
	SandboxRepository = "registry.sandbox.internal/sandbox"
	// SandboxTag is the tag of the sandbox's own images.
	SandboxTag = "sandbox"

	// DigestsFile is what Deckhouse reads the digests of a module's images from.
	DigestsFile = "images_digests.json"

	// imagesDir and sandboxImagesDir hold the definitions.
	imagesDir        = "images"
	sandboxImagesDir = "sandbox/images"
)

// Images assembles the module's images, all of them if none is named.
func (b *Builder) Images(ctx context.Context, names ...string) ([]image.Image, error) {
	return b.assemble(ctx, imagesDir, names, "", moduleReferences)
}

// Release assembles, for a version of the module, the images that hold only
// programs of ours, and those that are named. The engine's are those of its own
// release whatever the module's version is, unless somebody tries what another
// engine would do.
func (b *Builder) Release(ctx context.Context, version string, also ...string) ([]image.Image, error) {
	set, err := image.LoadSet(filepath.Join(b.repoRoot, imagesDir))
	if err != nil {
		return nil, err
	}
	names := slices.DeleteFunc(set.Runnable(), func(name string) bool {
		return !isOurs(set, name) && !slices.Contains(also, name)
	})
	return b.assemble(ctx, imagesDir, names, version, moduleReferences)
}

func isOurs(set *image.Set, name string) bool {
	definition, err := set.Get(name)
	return err == nil && len(definition.Build) > 0 && definition.Build[0].Module == "."
}

func moduleReferences(_, digest string) []string { return []string{Repository + "@" + digest} }

// SandboxImages assembles the images that only the sandbox runs, all of them if
// none is named.
func (b *Builder) SandboxImages(ctx context.Context, names ...string) ([]image.Image, error) {
	return b.assemble(ctx, sandboxImagesDir, names, "", func(name, _ string) []string {
		return []string{SandboxRepository + "/" + name + ":" + SandboxTag}
	})
}

func (b *Builder) assemble(ctx context.Context, dir string, names []string, version string, references func(name, digest string) []string) ([]image.Image, error) {
	set, err := image.LoadSet(filepath.Join(b.repoRoot, dir))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		names = set.Runnable()
	}
	assembler := &image.Assembler{Set: set, Inputs: b, Store: b.cache, References: references, Version: version, Progress: b.progress}
	return assembler.Assemble(ctx, names...)
}

// archives lists the archives that images are in, each once.
func archives(target string, images []image.Image) []Result {
	var results []Result
	listed := map[string]bool{}
	for _, img := range images {
		if !listed[img.Archive] {
			listed[img.Archive] = true
			results = append(results, Result{Name: target, Path: img.Archive})
		}
	}
	return results
}

// Publish writes the digests of the module's images where the Deckhouse side
// reads them. It starts to use them at once, so every node must have the images
// by then. What is known of images that are not given stays.
func (b *Builder) Publish(images []image.Image) error {
	dir := filepath.Join(b.stateDir, imagesDir)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	file := filepath.Join(dir, DigestsFile)
	digests := map[string]string{}
	content, err := os.ReadFile(file)
	if err == nil {
		err = json.Unmarshal(content, &digests)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s: %w", file, err)
	}
	maps.Copy(digests, image.Digests(images))
	if content, err = json.MarshalIndent(digests, "", "  "); err != nil {
		return err
	}
	// The reader must never see half a file.
	temporary := file + ".new"
	if err := os.WriteFile(temporary, append(content, '\n'), 0o644); err != nil {
		return err
	}
	return os.Rename(temporary, file)
}
