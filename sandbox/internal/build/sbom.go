// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"path/filepath"
	"slices"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

const (
	sbomTarget = "sbom"
	// sbomTool is the Go module that writes what images are made of.
	sbomTool = "tools/sbom"
)

// sbom has it written what every image of the module is made of, from the same
// programs and packages that the images are assembled from.
func (b *Builder) sbom(ctx context.Context) (results []Result, err error) {
	set, err := image.LoadSet(filepath.Join(b.repoRoot, imagesDir))
	if err != nil {
		return nil, err
	}
	args, err := b.sbomInputs(ctx, set)
	if err != nil {
		return nil, err
	}
	step := b.quietStep("bills of materials")
	defer func() { step.end(err) }()
	dir := filepath.Join(b.stateDir, sbomTarget)
	_, err = run(ctx, command{
		dir:  filepath.Join(b.repoRoot, sbomTool),
		env:  []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off"},
		args: slices.Concat([]string{"go", "run", ".", "-root", b.repoRoot}, args, []string{dir}),
	})
	return []Result{{Name: sbomTarget, Path: dir}}, err
}

// sbomInputs are the tool's flags: where the programs and the Debian roots of all
// images are.
func (b *Builder) sbomInputs(ctx context.Context, set *image.Set) ([]string, error) {
	var args []string
	var programs []image.Program
	for _, name := range set.Names() {
		definition, err := set.Get(name)
		if err != nil {
			return nil, err
		}
		for _, build := range definition.Build {
			if build.Package != "" {
				programs = append(programs, image.Program{Module: build.Module, Package: build.Package})
			}
		}
		if definition.Debian == nil {
			continue
		}
		root, err := b.PackageRoot(ctx, definition.Debian.Suite, definition.Debian.Packages)
		if err != nil {
			return nil, err
		}
		args = append(args, "-debian", name+"="+root.Path)
	}
	made, err := b.Programs(ctx, programs)
	if err != nil {
		return nil, err
	}
	folders := map[string]bool{}
	for program, artifact := range made {
		flag := program.Module + "=" + filepath.Dir(artifact.Path)
		if !folders[flag] {
			folders[flag] = true
			args = append(args, "-programs", flag)
		}
	}
	return args, nil
}
