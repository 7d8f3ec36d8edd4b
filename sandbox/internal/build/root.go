// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
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

// bindingDir is where go.mod files expect the Go binding of libnbd, beside the
// folder that they are in.
const bindingDir = "libnbd"

// unpackBinding takes the Go binding out of libnbd's source archive.
func unpackBinding(sources, target string) error {
	file, err := openBindingSource(sources)
	if err != nil {
		return err
	}
	defer file.Close()
	unpacked, err := gzip.NewReader(file)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(target, 0o755); err != nil {
		return err
	}
	archive := tar.NewReader(unpacked)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if !ofBinding(header.Name) {
			continue
		}
		content, err := io.ReadAll(archive)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(target, path.Base(header.Name)), renameSymbol(content), 0o644); err != nil {
			return err
		}
	}
}

// openBindingSource opens libnbd's source archive, whatever its version.
func openBindingSource(sources string) (*os.File, error) {
	archives, err := filepath.Glob(filepath.Join(sources, "libnbd_*.orig.tar.gz"))
	if err != nil {
		return nil, err
	}
	if len(archives) != 1 {
		return nil, fmt.Errorf("%s holds %d source archives of libnbd, want one", sources, len(archives))
	}
	return os.Open(archives[0])
}

// ofBinding tells whether a file of libnbd's source is part of the Go package.
func ofBinding(name string) bool {
	dir, base := path.Split(name)
	_, dir, _ = strings.Cut(dir, "/")
	if dir != "golang/" || strings.HasSuffix(base, "_test.go") {
		return false
	}
	return base == "go.mod" || strings.HasSuffix(base, ".go") || strings.HasSuffix(base, ".h")
}

// renameSymbol renames a function that the binding exports to C: the binding of
// libvirt exports one of the same name, and one program holds both.
func renameSymbol(content []byte) []byte {
	return bytes.ReplaceAll(content, []byte("freeCallbackId"), []byte("nbdFreeCallbackId"))
}
