// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
)

const (
	prometheusTarget = "prometheus"
	promtool         = "promtool"
	// promtoolMember is where Debian's package has the program. Apart from the C
	// library of any Debian that is still kept it needs nothing beside it.
	promtoolMember = "usr/bin/" + promtool
)

// prometheusPackages are those of the image that the sandbox runs, too: one root
// is fetched for both.
var prometheusPackages = []string{"base-files", "prometheus"}

// Promtool returns the path of the program that tests rules, out of the same
// package as the Prometheus that the sandbox runs.
func (b *Builder) Promtool(ctx context.Context) (string, error) {
	root, err := b.PackageRoot(ctx, buildSuite, prometheusPackages)
	if err != nil {
		return "", err
	}
	dir, err := b.cache.Ensure(ctx, debianKind, promtool, root.Key, func(_ context.Context, dir string) error {
		return extractProgram(root.Path, promtoolMember, filepath.Join(dir, promtool))
	})
	return filepath.Join(dir, promtool), err
}

func (b *Builder) prometheus(ctx context.Context) ([]Result, error) {
	program, err := b.Promtool(ctx)
	return []Result{{Name: promtool, Path: program}}, err
}

// extractProgram copies one file of a tar and makes it executable.
func extractProgram(archive, member, target string) error {
	source, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer source.Close()
	members := tar.NewReader(source)
	for {
		header, err := members.Next()
		if errors.Is(err, io.EOF) {
			return fmt.Errorf("%s has no %s", archive, member)
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", archive, err)
		}
		if path.Clean(header.Name) == member && header.Typeflag == tar.TypeReg {
			return writeProgram(target, members)
		}
	}
}

func writeProgram(target string, content io.Reader) (err error) {
	program, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, program.Close()) }()
	_, err = io.Copy(program, content)
	return err
}
