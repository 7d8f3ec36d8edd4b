// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

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

	imagesTarget        = "images"
	sandboxImagesTarget = "sandbox-images"
)

// Result is one thing that was built.
type Result struct {
	Name string
	Path string
}

// maker makes one target.
type maker func(ctx context.Context, b *Builder) ([]Result, error)

// targets are the things that can be asked for by name.
var targets = map[string]maker{
	"kubernetes":        releaseTarget("third_party/kubernetes"),
	"containerd":        releaseTarget("third_party/containerd"),
	"coredns":           releaseTarget("third_party/coredns"),
	"csi":               releaseTarget("third_party/csi"),
	"kubevirt":          releaseTarget("third_party/kubevirt"),
	"cdi":               releaseTarget("third_party/cdi"),
	"deckhouse":         ownTarget("sandbox/deckhouse", "./cmd/..."),
	"hooks":             ownTarget("hooks", "./cmd/virtualization-hooks"),
	"d8v":               ownTarget(".", "./cmd/d8v"),
	imagesTarget:        func(ctx context.Context, b *Builder) ([]Result, error) { return b.images(ctx) },
	sandboxImagesTarget: func(ctx context.Context, b *Builder) ([]Result, error) { return b.sandboxImages(ctx) },
}

// Targets lists what can be built; images/NAME for a single image is understood too.
func Targets() []string { return slices.Sorted(maps.Keys(targets)) }

// Build makes targets one after the other and says where each result is.
func (b *Builder) Build(ctx context.Context, names ...string) ([]Result, error) {
	wait := b.fetchRoots(ctx, names)
	var results []Result
	for _, name := range names {
		made, err := b.target(ctx, name)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("building %s: %w", name, err), wait())
		}
		results = append(results, made...)
	}
	return results, wait()
}

func (b *Builder) target(ctx context.Context, name string) ([]Result, error) {
	if single, found := strings.CutPrefix(name, imagesTarget+"/"); found {
		return b.images(ctx, single)
	}
	build, found := targets[name]
	if !found {
		return nil, fmt.Errorf("there is no such target, there are: %s", strings.Join(Targets(), ", "))
	}
	return build(ctx, b)
}

// releaseTarget yields the folder with the commands of a pinned module.
func releaseTarget(dir string) maker {
	return func(ctx context.Context, b *Builder) ([]Result, error) {
		r, err := b.release(ctx, dir)
		if err != nil {
			return nil, err
		}
		return []Result{{Name: r.name(), Path: r.dir}}, nil
	}
}

// ownTarget yields the commands of a module of ours.
func ownTarget(module string, packages ...string) maker {
	return func(ctx context.Context, b *Builder) ([]Result, error) {
		commands, err := run(ctx, command{
			dir:  filepath.Join(b.repoRoot, module),
			args: slices.Concat([]string{"go", "list", "-f", `{{if eq .Name "main"}}{{.ImportPath}}{{end}}`}, packages),
		})
		if err != nil {
			return nil, err
		}
		list := strings.Fields(string(commands))
		dir, err := b.own(ctx, module, list)
		if err != nil {
			return nil, err
		}
		var results []Result
		for _, pkg := range list {
			results = append(results, Result{Name: commandName(pkg), Path: filepath.Join(dir, commandName(pkg))})
		}
		return results, nil
	}
}

// images assembles the module's images, or those named, and notes their digests.
func (b *Builder) images(ctx context.Context, names ...string) ([]Result, error) {
	images, err := b.Images(ctx, names...)
	if err != nil {
		return nil, err
	}
	return b.publish(imagesTarget, images)
}

func (b *Builder) sandboxImages(ctx context.Context) ([]Result, error) {
	images, err := b.SandboxImages(ctx)
	if err != nil {
		return nil, err
	}
	return b.publish(sandboxImagesTarget, images)
}

// Images assembles the module's images, all of them if none is named.
func (b *Builder) Images(ctx context.Context, names ...string) ([]image.Image, error) {
	return b.assemble(ctx, "images", names, func(_, digest string) []string {
		return []string{Repository + "@" + digest}
	})
}

// SandboxImages assembles the images that only the sandbox runs.
func (b *Builder) SandboxImages(ctx context.Context) ([]image.Image, error) {
	return b.assemble(ctx, filepath.Join("sandbox", "images"), nil, func(name, _ string) []string {
		return []string{SandboxRepository + "/" + name + ":" + SandboxTag}
	})
}

func (b *Builder) assemble(ctx context.Context, dir string, names []string, references func(name, digest string) []string) ([]image.Image, error) {
	set, err := image.LoadSet(filepath.Join(b.repoRoot, dir))
	if err != nil {
		return nil, err
	}
	if len(names) == 0 {
		names = set.Runnable()
	}
	assembler := &image.Assembler{Set: set, Inputs: b, Store: b.cache, References: references, Progress: b.progress}
	return assembler.Assemble(ctx, names...)
}

// publish lists archives where nodes look for them, and the digests of the
// module's images where the Deckhouse side does.
func (b *Builder) publish(target string, images []image.Image) ([]Result, error) {
	var results []Result
	archives := map[string]bool{}
	for _, img := range images {
		if !archives[img.Archive] {
			archives[img.Archive] = true
			results = append(results, Result{Name: target, Path: img.Archive})
		}
	}
	if target != imagesTarget {
		return results, nil
	}
	dir := filepath.Join(b.stateDir, "images")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, err
	}
	file := filepath.Join(dir, DigestsFile)
	digests, err := json.MarshalIndent(image.Digests(images), "", "  ")
	if err != nil {
		return nil, err
	}
	return append(results, Result{Name: DigestsFile, Path: file}), os.WriteFile(file, append(digests, '\n'), 0o644)
}
