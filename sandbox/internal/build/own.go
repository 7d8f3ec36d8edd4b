// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

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
	compiled := 0
	_, err = run(ctx, command{
		dir:  filepath.Join(b.repoRoot, module),
		env:  []string{"CGO_ENABLED=0", "GOFLAGS=-buildvcs=false", "GOWORK=off"},
		args: slices.Concat([]string{"go", "build", "-v", "-trimpath", "-ldflags", "-s -w", "-o", dir + "/"}, packages),
		line: func(line string) {
			compiled++
			step.note(fmt.Sprintf("package %d, %s", compiled, line))
		},
	})
	return dir, err
}
