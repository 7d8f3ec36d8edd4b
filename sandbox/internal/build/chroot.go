// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"path/filepath"
	"slices"
	"strings"
)

// Where things lie inside a build root. They are the same on every machine, so
// that nothing of this one gets into a program.
const (
	insideGo        = "/usr/local/go"
	insideModules   = "/go/mod"
	insideCache     = "/go/cache"
	insideWorkspace = "/src"
	insideOut       = "/out"
)

// enterRoot runs in a mount namespace of its own, so that whatever happens to it
// nothing stays mounted. Its arguments: the root, pairs of folders to bind ended
// by --, the folder to start in, and the command.
const enterRoot = `root=$1; shift
while [ "$1" != -- ]; do
	mkdir -p "$root$2"
	mount --bind "$1" "$root$2"
	shift 2
done
shift
mount --rbind /dev "$root/dev"
mount -t proc proc "$root/proc"
exec chroot "$root" /usr/bin/env -i --chdir="$@"`

// inRoot turns a go command, to be run in a workspace, into one that runs inside
// a build root. It shares the caches with the go command outside, and gets
// nothing from the network.
func (b *Builder) inRoot(root, workspace, out string, c command) command {
	dir := insideWorkspace + strings.TrimPrefix(c.dir, workspace)
	script := []string{
		"unshare", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "sh", "-ec", enterRoot, "enter", root,
		b.toolchain.Root, insideGo,
		b.toolchain.Modules, insideModules,
		b.toolchain.BuildCache, insideCache,
		workspace, insideWorkspace,
		out, insideOut,
		"--", dir,
		"PATH=" + insideGo + "/bin:/usr/bin:/bin", "HOME=/root",
		"GOMODCACHE=" + insideModules, "GOCACHE=" + insideCache, "GOPROXY=off",
	}
	args := slices.Clone(c.args)
	for i, arg := range args {
		if arg == out+"/" {
			args[i] = insideOut + "/"
		} else if strings.HasPrefix(arg, out+"/") {
			args[i] = filepath.Join(insideOut, strings.TrimPrefix(arg, out))
		}
	}
	return command{args: slices.Concat(script, c.env, args), line: c.line}
}
