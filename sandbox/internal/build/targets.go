// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
)

const (
	imagesTarget        = "images"
	sandboxImagesTarget = "sandbox-images"
	allTargets          = "all"
)

// Result is one thing that was built.
type Result struct {
	Name string
	Path string
}

// maker makes one target.
type maker func(ctx context.Context, b *Builder) ([]Result, error)

// releases are the targets that are pinned modules, and their folders.
var releases = map[string]string{
	"kubernetes": "third_party/kubernetes",
	"containerd": "third_party/containerd",
	"coredns":    "third_party/coredns",
	"csi":        "third_party/csi",
	"kubevirt":   "third_party/kubevirt",
	"cdi":        "third_party/cdi",
	"versitygw":  "third_party/versitygw",
}

// targets are the other things that can be asked for by name.
var targets = map[string]maker{
	"deckhouse":         ownTarget("sandbox/deckhouse", "./cmd/..."),
	"hooks":             ownTarget("hooks", "./cmd/virtualization-hooks"),
	"d8v":               ownTarget(".", "./cmd/d8v"),
	guestsTarget:        func(ctx context.Context, b *Builder) ([]Result, error) { return b.guests(ctx) },
	prometheusTarget:    func(ctx context.Context, b *Builder) ([]Result, error) { return b.prometheus(ctx) },
	imagesTarget:        func(ctx context.Context, b *Builder) ([]Result, error) { return b.images(ctx) },
	sandboxImagesTarget: func(ctx context.Context, b *Builder) ([]Result, error) { return b.sandboxImages(ctx) },
	sbomTarget:          func(ctx context.Context, b *Builder) ([]Result, error) { return b.sbom(ctx) },
}

// Targets lists what can be built. Also understood are images/NAME for a single
// image, and all.
func Targets() []string {
	return slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Keys(releases)), slices.Collect(maps.Keys(targets)))))
}

// Build makes targets one after the other and says where each result is.
func (b *Builder) Build(ctx context.Context, names ...string) ([]Result, error) {
	if slices.Contains(names, allTargets) {
		names = Targets()
	}
	ctx, stop := context.WithCancel(ctx)
	fetched := b.Prefetch(ctx, names...)
	// When a target fails, what others would need is not waited for.
	defer func() { stop(); <-fetched }()
	var results []Result
	for _, name := range names {
		made, err := b.target(ctx, name)
		if err != nil {
			return nil, fmt.Errorf("building %s: %w", name, err)
		}
		results = append(results, made...)
	}
	return results, nil
}

func (b *Builder) target(ctx context.Context, name string) ([]Result, error) {
	if single, found := strings.CutPrefix(name, imagesTarget+"/"); found {
		return b.images(ctx, single)
	}
	if dir, found := releases[name]; found {
		return b.releaseTarget(ctx, dir)
	}
	build, found := targets[name]
	if !found {
		return nil, fmt.Errorf("there is no such target, there are: %s", strings.Join(Targets(), ", "))
	}
	return build(ctx, b)
}

// releaseTarget yields the folder with the commands of a pinned module.
func (b *Builder) releaseTarget(ctx context.Context, dir string) ([]Result, error) {
	r, err := b.release(ctx, dir)
	if err != nil {
		return nil, err
	}
	return []Result{{Name: r.name(), Path: r.dir}}, nil
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

// images assembles the module's images, or those named.
func (b *Builder) images(ctx context.Context, names ...string) ([]Result, error) {
	images, err := b.Images(ctx, names...)
	if err != nil {
		return nil, err
	}
	return archives(imagesTarget, images), nil
}

func (b *Builder) sandboxImages(ctx context.Context) ([]Result, error) {
	images, err := b.SandboxImages(ctx)
	if err != nil {
		return nil, err
	}
	return archives(sandboxImagesTarget, images), nil
}
