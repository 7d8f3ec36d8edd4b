// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package debuginfo

import (
	"archive/tar"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Write puts files into an archive, whose name ends with .tar.gz or .tgz or is "-", or
// into a folder. Only the user can read them.
func Write(output string, files map[string]string, stdout io.Writer) (err error) {
	switch {
	case output == "-":
		return writeArchive(stdout, files)
	case strings.HasSuffix(output, ".tar.gz"), strings.HasSuffix(output, ".tgz"):
		file, err := os.OpenFile(filepath.Clean(output), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
		if errors.Is(err, os.ErrExist) {
			return fmt.Errorf("%w: remove it or give another name by --output", err)
		}
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, file.Close()) }()
		return writeArchive(file, files)
	default:
		return writeFolder(output, files)
	}
}

func writeArchive(to io.Writer, files map[string]string) error {
	compressed := gzip.NewWriter(to)
	archive := tar.NewWriter(compressed)
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := archive.WriteHeader(&tar.Header{Name: name, Mode: 0o600, Size: int64(len(files[name]))}); err != nil {
			return err
		}
		if _, err := io.WriteString(archive, files[name]); err != nil {
			return err
		}
	}
	return errors.Join(archive.Close(), compressed.Close())
}

func writeFolder(folder string, files map[string]string) error {
	if err := os.MkdirAll(folder, 0o700); err != nil {
		return err
	}
	root, err := os.OpenRoot(folder)
	if err != nil {
		return err
	}
	defer func() { _ = root.Close() }()
	for name, text := range files {
		if err := root.MkdirAll(filepath.Dir(name), 0o700); err != nil {
			return err
		}
		if err := root.WriteFile(name, []byte(text), 0o600); err != nil {
			return err
		}
	}
	return nil
}
