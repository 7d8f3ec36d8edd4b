// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package host looks after the little that the sandbox needs of the machine.
package host

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"

	"golang.org/x/sys/unix"
)

// Packages are the Debian packages that the sandbox needs on the machine, and a
// file by which to see that each is there.
var Packages = map[string]string{
	"mmdebstrap":             "/usr/bin/mmdebstrap",
	"debian-archive-keyring": "/usr/share/keyrings/debian-archive-keyring.gpg",
	"util-linux":             "/usr/bin/nsenter",
}

// CheckRoot says what to do when the command lacks the rights it needs.
func CheckRoot() error {
	if os.Geteuid() != 0 {
		return errors.New("namespaces and mounts need root: type \"sudo sandbox ...\" or become root")
	}
	return nil
}

// EnsurePackages installs what is missing and says so.
func EnsurePackages(ctx context.Context, say func(format string, args ...any)) error {
	missing := missingPackages(Packages, exists)
	if len(missing) > 0 || !knowsMirrors(ctx) {
		say("asking this machine's Debian mirrors what they have")
		if err := aptGet(ctx, "update"); err != nil {
			return err
		}
	}
	if len(missing) == 0 {
		return nil
	}
	say("installing on this machine: %s", strings.Join(missing, " "))
	return aptGet(ctx, append([]string{"install", "--yes", "--no-install-recommends"}, missing...)...)
}

// knowsMirrors says whether apt has the lists of its mirrors. A fresh image of
// Debian often comes without, and then apt cannot even say which they are.
func knowsMirrors(ctx context.Context) bool {
	out, err := exec.CommandContext(ctx, "apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages").Output()
	return err == nil && len(strings.TrimSpace(string(out))) > 0
}

func aptGet(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, "apt-get", args...)
	cmd.Env = append(os.Environ(), "DEBIAN_FRONTEND=noninteractive")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("apt-get %s: %w: run it by hand to see more: %s", strings.Join(args, " "), err, lastLine(out))
	}
	return nil
}

func missingPackages(packages map[string]string, exists func(string) bool) []string {
	var missing []string
	for _, name := range sortedKeys(packages) {
		if !exists(packages[name]) {
			missing = append(missing, name)
		}
	}
	return missing
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// MayRaisePriority says whether this process has CAP_SYS_RESOURCE.
func MayRaisePriority() (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, fmt.Errorf("look at capabilities: %w", err)
	}
	return data[0].Effective&(1<<unix.CAP_SYS_RESOURCE) != 0, nil
}
