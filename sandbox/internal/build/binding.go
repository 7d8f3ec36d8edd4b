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
	"strings"
)

// bindingDir is where go.mod files expect the Go binding of libnbd, beside the
// folder that they are in.
const bindingDir = "libnbd"

// unpackBinding takes the Go binding out of libnbd's source archive.
func unpackBinding(sources, target string) error {
	archives, err := filepath.Glob(filepath.Join(sources, "libnbd_*.orig.tar.gz"))
	if err != nil {
		return err
	}
	if len(archives) != 1 {
		return fmt.Errorf("%s holds %d source archives of libnbd, want one", sources, len(archives))
	}
	file, err := os.Open(archives[0])
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
