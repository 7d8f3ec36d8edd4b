// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"

	"golang.org/x/mod/module"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// ModuleFile copies one file of a release that a module pins. The copy does not
// depend on the go command keeping the release in its own cache.
func (b *Builder) ModuleFile(ctx context.Context, dir, source string) (image.Artifact, error) {
	version, inside, err := b.locate(dir, source)
	if err != nil {
		return image.Artifact{}, err
	}
	sum, err := newKey().add("file", version.String(), inside).sum()
	if err != nil {
		return image.Artifact{}, err
	}
	name := path.Base(inside)
	folder, err := b.cache.Ensure(ctx, "files", name, sum, func(ctx context.Context, out string) error {
		from, err := b.download(ctx, version)
		if err != nil {
			return err
		}
		return copyFile(filepath.Join(from, inside), filepath.Join(out, name))
	})
	return image.Artifact{Path: filepath.Join(folder, name), Key: sum}, err
}

// CProgram compiles one C file of a release that a module pins; the program is
// static, so that it runs in a container whatever its root holds.
func (b *Builder) CProgram(ctx context.Context, dir, source string) (image.Artifact, error) {
	version, inside, err := b.locate(dir, source)
	if err != nil {
		return image.Artifact{}, err
	}
	rootKey, err := buildRootKey()
	if err != nil {
		return image.Artifact{}, err
	}
	sum, err := newKey().add("c", version.String(), inside, rootKey).sum()
	if err != nil {
		return image.Artifact{}, err
	}
	const program = "program"
	folder, err := b.cache.Ensure(ctx, "c", path.Base(path.Dir(inside)), sum, func(ctx context.Context, out string) error {
		root, err := b.buildRoot(ctx)
		if err != nil {
			return err
		}
		from, err := b.download(ctx, version)
		if err != nil {
			return err
		}
		compile := command{
			dir:  from,
			args: []string{"gcc", "-O2", "-static", "-s", "-o", filepath.Join(out, program), inside},
		}
		_, err = run(ctx, b.inRoot(root, from, out, compile))
		return err
	})
	return image.Artifact{Path: filepath.Join(folder, program), Key: sum}, err
}

// locate finds the release that holds a file among those that a module pins.
func (b *Builder) locate(dir, source string) (module.Version, string, error) {
	p, err := loadPinned(b.repoRoot, dir)
	if err != nil {
		return module.Version{}, "", err
	}
	if p == nil {
		return module.Version{}, "", fmt.Errorf("%s has no %s", dir, recipeFile)
	}
	return p.locate(source)
}

// download returns the folder of a release, fetched and checked if need be.
func (b *Builder) download(ctx context.Context, version module.Version) (string, error) {
	escaped, err := module.EscapePath(version.Path)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(b.toolchain.Modules, escaped+"@"+version.Version)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	_, err = run(ctx, command{dir: b.cache.dir, args: []string{"go", "mod", "download", version.String()}})
	return folder, err
}

func copyFile(from, to string) error {
	source, err := os.Open(from)
	if err != nil {
		return err
	}
	defer source.Close()
	target, err := os.Create(to)
	if err != nil {
		return err
	}
	if _, err := io.Copy(target, source); err != nil {
		target.Close()
		return err
	}
	return target.Close()
}
