// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// buildSuite is the Debian release that programs which call C libraries are
// compiled for; images that run them are made of the same release.
const buildSuite = "trixie"

// buildPackages is what compiling these programs takes.
var buildPackages = []string{"gcc", "libc6-dev", "libnbd-dev", "libvirt-dev", "pkg-config"}

const (
	// debianKind is the kind under which Debian roots, and parts of them, are kept in the cache.
	debianKind = "debian"
	rootFolder = "root"
	rootTar    = "root.tar"
	// nbdSource is the Debian source package that has the Go binding of libnbd;
	// it is taken into the build root so that it fits the library there.
	nbdSource = "libnbd"
)

// PackageRoot unpacks Debian packages, and what they depend on, into a tar.
func (b *Builder) PackageRoot(ctx context.Context, suite string, packages []string) (image.Artifact, error) {
	packages = slices.Sorted(slices.Values(packages))
	sum, err := newKey().add("packages", suite, strings.Join(packages, ",")).sum()
	if err != nil {
		return image.Artifact{}, err
	}
	name := suite + "-packages"
	dir, err := b.cache.Ensure(ctx, debianKind, name, sum, func(ctx context.Context, dir string) error {
		return b.bootstrap(ctx, fmt.Sprintf("%d packages of Debian %s", len(packages), suite), suite,
			filepath.Join(dir, rootTar), "--variant=extract", "--include="+strings.Join(packages, ","))
	})
	return image.Artifact{Path: filepath.Join(dir, rootTar), Key: sum}, err
}

// buildRootKey identifies the build root; it is part of the key of whatever is
// compiled in it.
func buildRootKey() (string, error) {
	return newKey().add("build root", buildSuite, strings.Join(buildPackages, ","), nbdSource).sum()
}

// buildRoot returns the root file system that programs with C libraries are
// compiled in.
func (b *Builder) buildRoot(ctx context.Context) (string, error) {
	sum, err := buildRootKey()
	if err != nil {
		return "", err
	}
	// Several builds of this run may come here at once.
	b.rootMutex.Lock()
	defer b.rootMutex.Unlock()
	dir, err := b.cache.Ensure(ctx, debianKind, buildSuite+"-build", sum, func(ctx context.Context, dir string) error {
		return b.bootstrap(ctx, "build root of Debian "+buildSuite, buildSuite, filepath.Join(dir, rootFolder),
			"--variant=minbase", "--include="+strings.Join(buildPackages, ","),
			"--dpkgopt=path-exclude=/usr/share/man/*", "--dpkgopt=path-exclude=/usr/share/doc/*", "--dpkgopt=path-exclude=/usr/share/locale/*",
			"--customize-hook=chroot \"$1\" sh -c 'cd /usr/src && apt-get source --download-only "+nbdSource+"'")
	})
	return filepath.Join(dir, rootFolder), err
}

// bootstrap makes a root file system with mmdebstrap.
func (b *Builder) bootstrap(ctx context.Context, what, suite, target string, options ...string) (err error) {
	sources, err := debianSources(ctx, suite)
	if err != nil {
		return err
	}
	step := b.step(what)
	defer func() { step.end(err) }()
	args := append([]string{"mmdebstrap", "--mode=root", `--aptopt=APT::Install-Recommends "false"`}, options...)
	args = append(args, suite, target)
	_, err = run(ctx, command{
		args: append(args, sources...),
		// Times in the result are no later than this, so equal content is equal.
		env:  []string{"SOURCE_DATE_EPOCH=0"},
		line: func(line string) { step.note(strings.TrimPrefix(line, "I: ")) },
	})
	return err
}

// debianSources returns the lines of a sources.list for a suite. It asks apt
// which mirrors this machine uses, so that another release comes from there too.
func debianSources(ctx context.Context, suite string) ([]string, error) {
	lines, err := knownSources(ctx, suite)
	if err != nil || len(lines) > 0 {
		return lines, err
	}
	// A machine whose lists were removed to save space knows no mirror by label.
	if _, err := run(ctx, command{args: []string{"apt-get", "update", "--quiet"}}); err != nil {
		return nil, err
	}
	if lines, err = knownSources(ctx, suite); err == nil && len(lines) == 0 {
		err = errors.New("apt knows no Debian mirror: name one in /etc/apt/sources.list and run apt-get update")
	}
	return lines, err
}

func knownSources(ctx context.Context, suite string) ([]string, error) {
	output, err := run(ctx, command{args: []string{"apt-get", "indextargets", "--format", "$(LABEL) $(REPO_URI)", "Created-By: Packages", "Origin: Debian"}})
	if err != nil {
		return nil, err
	}
	return sourceLines(string(output), suite), nil
}

// sourceLines turns apt's list of labels and repositories into sources.
func sourceLines(targets, suite string) []string {
	var lines []string
	add := func(uri, suite string) {
		for _, kind := range []string{"deb", "deb-src"} {
			lines = append(lines, fmt.Sprintf("%s %s %s main", kind, uri, suite))
		}
	}
	repositories := map[string]string{}
	for _, line := range strings.Split(targets, "\n") {
		label, uri, _ := strings.Cut(line, " ")
		repositories[label] = uri
	}
	if uri := repositories["Debian"]; uri != "" {
		add(uri, suite)
		add(uri, suite+"-updates")
	}
	if uri := repositories["Debian-Security"]; uri != "" {
		add(uri, suite+"-security")
	}
	return lines
}
