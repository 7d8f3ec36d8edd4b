// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package guest makes the disks that guests of the sandbox boot from: a tiny one
// for tests and a real Debian for the quick start, both of Debian's packages; and
// a few files that are no good as disks, for tests of how that is told.
//
// A disk is laid out by ordinary tools that work on files, inside a root of their
// own: nothing is mounted and no device is used, so nothing can be left behind.
package guest

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Suite is the Debian release that guests and tools are made of.
const Suite = "trixie"

// Workshop is what this package needs of the builder.
type Workshop interface {
	// Cached returns the folder of a key, made by create if there is none yet.
	Cached(ctx context.Context, kind, name, key string, create func(ctx context.Context, dir string) error) (string, error)
	// Bootstrap makes a Debian root with mmdebstrap.
	Bootstrap(ctx context.Context, what, suite, target string, options ...string) error
	// Step runs a piece of work that takes long and tells how far it is.
	Step(what string, work func(note func(string)) error) error
}

// Result is a folder whose files are served under a prefix.
type Result struct {
	// Prefix is the folder's path in what is served; empty for the top.
	Prefix string
	Dir    string
}

// toolPackages is what laying out disks takes; dash is the shell that syslinux
// starts mtools with.
var toolPackages = []string{
	"base-files", "bash", "coreutils", "cpio", "dash", "dosfstools", "e2fsprogs", "fdisk", "findutils", "grep", "kmod",
	"mtools", "qemu-utils", "sed", "syslinux", "syslinux-common", "tar", "util-linux", "xz-utils", "zstd",
}

// kernelPackages is what the tiny guest consists of; the last two boot it by EFI.
var kernelPackages = []string{"busybox-static", "linux-image-cloud-amd64", "shim-signed", "systemd-boot-efi-amd64-signed"}

// leftOut are files that no guest needs.
var leftOut = []string{"/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/man/*"}

// Build makes everything that guests are served from. Sources is the folder
// sandbox/guests of the repository.
func Build(ctx context.Context, w Workshop, sources string) ([]Result, error) {
	b := &builder{workshop: w, sources: sources}
	if err := b.prepareTools(ctx); err != nil {
		return nil, fmt.Errorf("root with the tools for disks: %w", err)
	}
	var results []Result
	for _, guest := range []struct {
		name string
		make func(ctx context.Context, dir string) error
	}{
		{"tiny", b.tiny},
		{"debian-13", b.debian},
	} {
		dir, err := b.guest(ctx, guest.name, guest.make)
		if err != nil {
			return nil, fmt.Errorf("guest %s: %w", guest.name, err)
		}
		results = append(results, Result{Dir: dir})
	}
	bad, err := b.badFiles(ctx)
	if err != nil {
		return nil, err
	}
	return append(results, Result{Prefix: "bad", Dir: bad}), nil
}

type builder struct {
	workshop Workshop
	sources  string
	tools    root
}

func (b *builder) prepareTools(ctx context.Context) error {
	key := hash("tools", Suite, strings.Join(toolPackages, ","))
	dir, err := b.workshop.Cached(ctx, "debian", Suite+"-disk-tools", key, func(ctx context.Context, dir string) error {
		return b.workshop.Bootstrap(ctx, "tools for disks", Suite, filepath.Join(dir, "root"),
			"--variant=extract", "--include="+strings.Join(toolPackages, ","))
	})
	b.tools = root{dir: filepath.Join(dir, "root")}
	return err
}

// guest makes one disk with its checksum, keyed by the folder that describes it.
func (b *builder) guest(ctx context.Context, name string, create func(ctx context.Context, dir string) error) (string, error) {
	key, err := hashTree(filepath.Join(b.sources, name))
	if err != nil {
		return "", err
	}
	key = hash(key, Suite, strings.Join(toolPackages, ","), strings.Join(kernelPackages, ","), strings.Join(leftOut, ","))
	return b.workshop.Cached(ctx, "guests", name, key, func(ctx context.Context, dir string) error {
		if err := create(ctx, dir); err != nil {
			return err
		}
		return writeChecksum(filepath.Join(dir, name+".qcow2"))
	})
}

func (b *builder) tiny(ctx context.Context, dir string) error {
	packages := filepath.Join(dir, "packages.tar")
	err := b.workshop.Bootstrap(ctx, "kernel of the tiny guest", Suite, packages,
		"--variant=extract", "--include="+strings.Join(kernelPackages, ","))
	if err != nil {
		return err
	}
	if err := b.assemble(ctx, "tiny", dir, insideDir+"/packages.tar"); err != nil {
		return err
	}
	return os.Remove(packages)
}

func (b *builder) debian(ctx context.Context, dir string) error {
	source := filepath.Join(b.sources, "debian-13")
	packages, err := os.ReadFile(filepath.Join(source, "packages"))
	if err != nil {
		return err
	}
	options := []string{
		"--variant=minbase",
		"--include=" + strings.Join(strings.Fields(string(packages)), ","),
		"--customize-hook='" + filepath.Join(source, "customize.sh") + `' "$1"`,
	}
	for _, pattern := range leftOut {
		options = append(options, "--dpkgopt=path-exclude="+pattern)
	}
	system := filepath.Join(dir, "root")
	if err := b.workshop.Bootstrap(ctx, "system of the Debian guest", Suite, system, options...); err != nil {
		return err
	}
	if err := b.assemble(ctx, "debian-13", dir, insideDir+"/root"); err != nil {
		return err
	}
	return os.RemoveAll(system)
}

// assemble runs a guest's assemble.sh among the tools.
func (b *builder) assemble(ctx context.Context, name, dir, material string) error {
	return b.workshop.Step("disk of guest "+name, func(note func(string)) error {
		return b.tools.run(ctx, dir, b.sources, note,
			"/bin/bash", insideSources+"/"+name+"/assemble.sh", insideSources+"/"+name, material, insideDir)
	})
}

// writeChecksum writes what sha256sum would, beside the file.
func writeChecksum(path string) error {
	sum, err := hashFile(path)
	if err != nil {
		return err
	}
	return os.WriteFile(path+".sha256", []byte(sum+"  "+filepath.Base(path)+"\n"), 0o644)
}

func hash(values ...string) string {
	sum := sha256.Sum256(fmt.Appendf(nil, "%q", values))
	return hex.EncodeToString(sum[:])
}

func hashFile(path string) (_ string, err error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	sum := sha256.New()
	if _, err := io.Copy(sum, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

// hashTree hashes names, contents and execute bits of a folder's files.
func hashTree(dir string) (string, error) {
	var parts []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		sum, err := hashFile(path)
		name := strings.TrimPrefix(path, dir)
		parts = append(parts, fmt.Sprintf("%s %t %s", name, info.Mode()&0o100 != 0, sum))
		return err
	})
	if err != nil {
		return "", err
	}
	slices.Sort(parts)
	return hash(parts...), nil
}
