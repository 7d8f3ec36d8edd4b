// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Publish makes a folder hold exactly the files of the results. Whoever reads a
// file meanwhile goes on reading the old one.
func Publish(results []Result, target string) error {
	wanted := map[string]bool{}
	for _, result := range results {
		entries, err := os.ReadDir(result.Dir)
		if err != nil {
			return err
		}
		for _, entry := range entries {
			name := filepath.Join(result.Prefix, entry.Name())
			wanted[name] = true
			if err := place(filepath.Join(result.Dir, entry.Name()), filepath.Join(target, name)); err != nil {
				return fmt.Errorf("publish %s: %w", name, err)
			}
		}
	}
	return removeOthers(target, wanted)
}

// place links a file, or copies it where the folders are on different file systems.
func place(source, target string) error {
	if same(source, target) {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return err
	}
	temporary := target + ".new"
	if err := os.Remove(temporary); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if os.Link(source, temporary) != nil {
		if err := copyFile(source, temporary); err != nil {
			return err
		}
	}
	return os.Rename(temporary, target)
}

// same says whether a file was placed already. Files in the cache never change,
// so size and time are enough where it was copied.
func same(source, target string) bool {
	a, err := os.Stat(source)
	if err != nil {
		return false
	}
	b, err := os.Stat(target)
	return err == nil && (os.SameFile(a, b) || a.Size() == b.Size() && a.ModTime().Equal(b.ModTime()))
}

func copyFile(source, target string) (err error) {
	from, err := os.Open(source)
	if err != nil {
		return err
	}
	defer from.Close()
	to, err := os.OpenFile(target, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(to, from)
	if err := errors.Join(err, to.Close()); err != nil {
		return err
	}
	info, err := from.Stat()
	if err != nil {
		return err
	}
	return os.Chtimes(target, info.ModTime(), info.ModTime())
}

func removeOthers(target string, wanted map[string]bool) error {
	return filepath.WalkDir(target, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(target, path)
		if err != nil || wanted[name] {
			return err
		}
		return os.Remove(path)
	})
}
