// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// key hashes all that goes into a step.
type key struct {
	hash hash.Hash
	err  error
}

func newKey() *key { return &key{hash: sha256.New()} }

// add puts a named value in; the name keeps neighbours from running together.
func (k *key) add(name string, values ...string) *key {
	fmt.Fprintf(k.hash, "%s %q\n", name, values)
	return k
}

// file puts a file's content in.
func (k *key) file(name, path string) *key {
	sum, err := hashFile(path)
	if err != nil && k.err == nil {
		k.err = err
	}
	return k.add(name, sum)
}

// tree puts the names and contents of all files of a folder in.
func (k *key) tree(name, dir string) *key {
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		relative, err := filepath.Rel(dir, path)
		k.file(name+"/"+relative, path)
		return err
	})
	if err != nil && k.err == nil {
		k.err = err
	}
	return k
}

func (k *key) sum() (string, error) {
	return hex.EncodeToString(k.hash.Sum(nil)), k.err
}

func hashFile(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return "", err
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}
