// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"k8s.io/utils/clock"
)

const (
	// keyLength is how much of a key is in a folder's name: enough to be unique
	// and short enough to be read.
	keyLength = 16
	// keepUnused is how long something stays in the cache after its last use once
	// something newer of the same name exists: long enough to go back and forth
	// between branches without building again.
	keepUnused = 7 * 24 * time.Hour
	// keepOthers is how many older results of a name stay at most: archives of
	// images are large, and somebody who changes a program makes many.
	keepOthers = 2
	// keepRoots is the same for Debian roots: each set of packages is another result of
	// one name, and a run of the sandbox asks for all of them.
	keepRoots = 8
	// temporaryPrefix marks folders that are being made.
	temporaryPrefix = ".making-"
	lockRetry       = 200 * time.Millisecond
)

// cache keeps results in folders <dir>/<kind>/<name>-<key>.
type cache struct {
	dir      string
	clock    clock.PassiveClock
	progress func(string)
}

// Ensure returns the folder of a key. If there is none it is made by create in a
// temporary folder, which gets its name only when it is complete, so that a crash
// leaves nothing that looks finished. Other processes wait meanwhile.
func (c *cache) Ensure(ctx context.Context, kind, name, key string, create func(ctx context.Context, dir string) error) (string, error) {
	folder := filepath.Join(c.dir, kind)
	final := c.path(kind, name, key)
	if c.use(final) {
		return final, nil
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return "", err
	}
	unlock, err := c.lock(ctx, kind, name)
	if err != nil {
		return "", err
	}
	defer unlock()
	if c.use(final) {
		return final, nil
	}
	temporary, err := c.temporary(folder, name)
	if err != nil {
		return "", err
	}
	if err := create(ctx, temporary); err != nil {
		return "", errors.Join(err, os.RemoveAll(temporary))
	}
	if err := os.Rename(temporary, final); err != nil {
		return "", err
	}
	c.use(final)
	return final, c.prune(kind, name, final)
}

// path is where the folder of a key is, if there is one.
func (c *cache) path(kind, name, key string) string {
	return filepath.Join(c.dir, kind, name+"-"+key[:min(len(key), keyLength)])
}

// use tells whether a folder exists and notes that it was used now.
func (c *cache) use(folder string) bool {
	if _, err := os.Stat(folder); err != nil {
		return false
	}
	now := c.clock.Now()
	// Failing to note it costs at worst another build in a week.
	_ = os.Chtimes(folder, now, now)
	return true
}

// temporary makes an empty folder. What lies there from a run that crashed can
// be removed, since the caller holds the lock.
func (c *cache) temporary(folder, name string) (string, error) {
	temporary := filepath.Join(folder, temporaryPrefix+name)
	if err := os.RemoveAll(temporary); err != nil {
		return "", err
	}
	return temporary, os.Mkdir(temporary, 0o755)
}

// prune removes older results of a name that are too many or that nobody used for
// a while.
func (c *cache) prune(kind, name, current string) error {
	others, err := c.others(filepath.Join(c.dir, kind), name, current)
	if err != nil {
		return err
	}
	keep := keepOthers
	if kind == debianKind {
		keep = keepRoots
	}
	for i, other := range others {
		if i < keep && c.clock.Since(other.used) < keepUnused {
			continue
		}
		if err := os.RemoveAll(other.path); err != nil {
			return err
		}
	}
	return nil
}

// result is one folder of the cache.
type result struct {
	path string
	used time.Time
}

// others lists the results of a name but for the current one, the last used first.
func (c *cache) others(folder, name, current string) ([]result, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var others []result
	for _, entry := range entries {
		path := filepath.Join(folder, entry.Name())
		key, found := strings.CutPrefix(entry.Name(), name+"-")
		if !found || len(key) != keyLength || strings.Contains(key, "-") || path == current {
			continue
		}
		info, err := entry.Info()
		if err != nil {
			return nil, err
		}
		others = append(others, result{path: path, used: info.ModTime()})
	}
	slices.SortFunc(others, func(a, b result) int { return b.used.Compare(a.used) })
	return others, nil
}

// lock keeps other processes, and other goroutines of this one, from making the
// same thing at the same time.
func (c *cache) lock(ctx context.Context, kind, name string) (unlock func(), err error) {
	folder := filepath.Join(c.dir, "locks")
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return nil, err
	}
	file, err := os.OpenFile(filepath.Join(folder, kind+"-"+name), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	for waited := false; ; waited = true {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			file.Close()
			return nil, fmt.Errorf("locking %s: %w", file.Name(), err)
		}
		if !waited {
			c.progress(fmt.Sprintf("waiting for %s %s, which another run is making", kind, name))
		}
		select {
		case <-ctx.Done():
			file.Close()
			return nil, ctx.Err()
		case <-time.After(lockRetry):
		}
	}
}

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
