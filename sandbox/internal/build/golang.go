// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// release is a pinned module whose commands are all compiled.
type release struct {
	*pinned
	// dir holds the commands under their names.
	dir string
	// key changes whenever a command may differ.
	key string
}

// release compiles all commands of a pinned module, or finds them in the cache.
func (b *Builder) release(ctx context.Context, dir string) (*release, error) {
	p, sum, err := b.releaseKey(dir)
	if err != nil {
		return nil, err
	}
	folder, err := b.cache.Ensure(ctx, releaseKind, p.name(), sum, func(ctx context.Context, out string) error {
		return b.compile(ctx, p, out)
	})
	return &release{pinned: p, dir: folder, key: sum}, err
}

// releaseKind is the kind under which releases are kept in the cache.
const releaseKind = "go"

// releaseKey reads a pinned module and makes the key of its release.
func (b *Builder) releaseKey(dir string) (*pinned, string, error) {
	p, err := loadPinned(b.repoRoot, dir)
	if err != nil {
		return nil, "", err
	}
	if p == nil {
		return nil, "", fmt.Errorf("%s has no %s", dir, recipeFile)
	}
	k := newKey().add("go", b.toolchain.Version, b.toolchain.Arch).tree("module", p.path)
	if p.recipe.Cgo {
		root, err := buildRootKey()
		if err != nil {
			return nil, "", err
		}
		k.add("root", root)
	}
	sum, err := k.sum()
	return p, sum, err
}

// compile builds the commands of a pinned module into a folder.
func (b *Builder) compile(ctx context.Context, p *pinned, out string) (err error) {
	root := ""
	if p.recipe.Cgo {
		if root, err = b.buildRoot(ctx); err != nil {
			return err
		}
	}
	packages := p.packages()
	step := b.step(fmt.Sprintf("%s, %d programs", p.name(), len(packages)))
	defer func() { step.end(err) }()
	workspace, err := b.workspace(p, root)
	if err != nil {
		return err
	}
	defer os.RemoveAll(workspace)
	work := filepath.Join(workspace, p.name())
	step.note("fetching modules")
	total, err := b.fetchPackages(ctx, p, work, step.note)
	if err != nil {
		return err
	}
	// The go command says nothing of packages that it has compiled before.
	step.note(fmt.Sprintf("comparing %d packages with earlier builds, and linking", total))
	build := command{
		dir: work,
		env: p.environment(),
		// One command compiles what they share once and keeps all cores busy.
		args: slices.Concat([]string{
			"go", "build", "-v", "-trimpath", "-tags", strings.Join(p.recipe.Tags, ","), "-ldflags", p.ldflags(), "-o", out + "/",
		}, packages),
		line: countPackages(step, fmt.Sprintf(" of at most %d", total)),
	}
	if p.recipe.Cgo {
		build = b.inRoot(root, workspace, out, build)
	}
	if _, err := run(ctx, build); err != nil {
		return err
	}
	return renamePrograms(out, p)
}

// countPackages takes the lines of go build -v, which are the packages that it
// compiles and, with spaces, what else it has to say.
func countPackages(s *step, total string) func(string) {
	compiled := 0
	return func(line string) {
		if strings.Contains(line, " ") {
			s.note(line)
			return
		}
		compiled++
		s.note(fmt.Sprintf("package %d%s, %s", compiled, total, line))
	}
}

// environment is how the go command is set up for a pinned module.
func (p *pinned) environment() []string {
	cgo := "0"
	if p.recipe.Cgo {
		cgo = "1"
	}
	return []string{"CGO_ENABLED=" + cgo, "CGO_CFLAGS=-O2 -w", "GOFLAGS=-buildvcs=false -mod=readonly", "GOWORK=off", "GOTOOLCHAIN=local"}
}

// fetchPackages downloads the modules that the commands need, checked against the
// checksum database as usual, and counts their packages.
func (b *Builder) fetchPackages(ctx context.Context, p *pinned, work string, note func(string)) (int, error) {
	output, err := run(ctx, command{
		dir:  work,
		env:  p.environment(),
		args: slices.Concat([]string{"go", "list", "-deps", "-tags", strings.Join(p.recipe.Tags, ",")}, p.packages()),
		line: note,
	})
	return strings.Count(string(output), "\n"), err
}

// renamePrograms gives the commands the names that the module's recipe asks for.
func renamePrograms(dir string, p *pinned) error {
	programs := p.programs()
	for _, name := range slices.Sorted(maps.Keys(programs)) {
		built := commandName(programs[name])
		if programs[name] == "." {
			built = commandName(p.file.Module.Mod.Path)
		}
		if built == name {
			continue
		}
		if err := os.Rename(filepath.Join(dir, built), filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// workspace lays out a folder to compile a pinned module in: its files, and
// beside them the Go binding of libnbd if the module asks for it.
func (b *Builder) workspace(p *pinned, root string) (string, error) {
	// Whoever compiles a module holds its lock: what lies here is from a crash.
	workspace := filepath.Join(b.cache.dir, "workspace-"+p.name())
	if err := os.RemoveAll(workspace); err != nil {
		return "", err
	}
	if err := os.MkdirAll(workspace, 0o755); err != nil {
		return "", err
	}
	if err := os.CopyFS(filepath.Join(workspace, p.name()), os.DirFS(p.path)); err != nil {
		return "", err
	}
	if p.needsBinding() {
		return workspace, unpackBinding(filepath.Join(root, "usr", "src"), filepath.Join(workspace, bindingDir))
	}
	return workspace, nil
}

// own compiles programs of one of our own modules. The go command decides what
// there is to do; the folder is the same each time, so it finds its last result.
func (b *Builder) own(ctx context.Context, module string, packages []string) (dir string, err error) {
	name := strings.ReplaceAll(filepath.Clean(module), "/", "-")
	if name == "." {
		name = "virtualization"
	}
	unlock, err := b.cache.lock(ctx, "own", name)
	if err != nil {
		return "", err
	}
	defer unlock()
	dir = filepath.Join(b.cache.dir, "own", name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	step := b.quietStep(fmt.Sprintf("%d programs of %s", len(packages), name))
	defer func() { step.end(err) }()
	_, err = run(ctx, command{
		dir:  filepath.Join(b.repoRoot, module),
		env:  []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off"},
		args: slices.Concat([]string{"go", "build", "-v", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/"}, packages),
		line: countPackages(step, ""),
	})
	return dir, err
}
