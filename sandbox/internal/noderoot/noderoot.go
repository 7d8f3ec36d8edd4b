// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package noderoot makes the root file system of nodes out of Debian packages.
package noderoot

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

const suite = "trixie"

// layout changes when what is added to the packages does.
const layout = "2"

// packages are what the processes of a node, and people who look into it, call.
var packages = []string{
	"base-files", "bash", "busybox", "conntrack", "containernetworking-plugins", "coreutils", "dash", "e2fsprogs",
	"ethtool", "findutils", "grep", "hostname", "iproute2", "iptables", "kmod", "mount", "nftables", "procps",
	"runc", "sed", "tar", "util-linux", "xfsprogs",
}

// Packages unpacks Debian packages with what they depend on into a tar.
type Packages interface {
	PackageRoot(ctx context.Context, suite string, packages []string) (image.Artifact, error)
}

// files are what the packages' own scripts, which did not run, would have made.
var files = map[string]string{
	"etc/passwd":        "root:x:0:0:root:/root:/bin/bash\nnobody:x:65534:65534:nobody:/nonexistent:/usr/sbin/nologin\n",
	"etc/group":         "root:x:0:\ntty:x:5:\ndisk:x:6:\nnogroup:x:65534:\n",
	"etc/nsswitch.conf": "passwd: files\ngroup: files\nhosts: files dns\n",
}

// links are what the packages' scripts, or Debian's alternatives, would have made.
var links = map[string]string{
	"etc/mtab":                  "../proc/self/mounts",
	"var/lock":                  "/run/lock",
	"var/run":                   "/run",
	"usr/sbin/iptables":         "iptables-nft",
	"usr/sbin/iptables-save":    "iptables-nft-save",
	"usr/sbin/iptables-restore": "iptables-nft-restore",
}

// Ensure returns the directory of the root file system, made if it is not in the
// cache yet.
func Ensure(ctx context.Context, p Packages, cache string, say func(format string, args ...any)) (string, error) {
	root, err := p.PackageRoot(ctx, suite, packages)
	if err != nil {
		return "", fmt.Errorf("packages of nodes: %w", err)
	}
	dir := filepath.Join(cache, "noderoot", root.Key+"-"+layout)
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	say("unpacking the root file system of nodes")
	tmp := dir + ".new"
	if err := os.RemoveAll(tmp); err != nil {
		return "", err
	}
	if err := fill(ctx, root.Path, tmp); err != nil {
		return "", fmt.Errorf("root file system of nodes: %w", err)
	}
	return dir, os.Rename(tmp, dir)
}

// fill unpacks the packages and completes them.
func fill(ctx context.Context, archive, dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "tar", "--extract", "--file="+archive, "--directory="+dir, "--numeric-owner").CombinedOutput()
	if err != nil {
		return fmt.Errorf("unpack %s: %w: %s", archive, err, out)
	}
	return complete(dir)
}

func complete(dir string) error {
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			return err
		}
	}
	for name, target := range links {
		path := filepath.Join(dir, name)
		// Packages ship some of them as directories.
		if err := os.RemoveAll(path); err != nil {
			return err
		}
		if err := os.Symlink(target, path); err != nil {
			return err
		}
	}
	return nil
}
