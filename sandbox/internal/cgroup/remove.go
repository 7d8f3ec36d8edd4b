// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const (
	removeAttempts = 50
	removePause    = 100 * time.Millisecond
)

// Remove takes a cgroup and all below it away. A killed process leaves its
// cgroup a moment after its end, so a busy one is tried again for a while.
func (t Tree) Remove(name string) error {
	var err error
	for range removeAttempts {
		if err = t.removeOnce(name); err == nil {
			return nil
		}
		time.Sleep(removePause)
	}
	return fmt.Errorf("remove cgroup %s: %w: a process still runs in it", name, err)
}

func (t Tree) removeOnce(name string) error {
	dirs := []string{t.root}
	if !t.unified {
		// Not only the hierarchies that Create uses: runc makes cgroups in
		// "unified" too.
		var err error
		if dirs, err = filepath.Glob(filepath.Join(t.root, "*")); err != nil {
			return err
		}
	}
	var all error
	for _, dir := range dirs {
		all = errors.Join(all, removeTree(filepath.Join(dir, name)))
	}
	return all
}

// removeTree removes directories only: the files of a cgroup go with it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// Exists says whether any hierarchy has the cgroup.
func (t Tree) Exists(name string) bool {
	pattern := filepath.Join(t.root, "*", name)
	if t.unified {
		pattern = filepath.Join(t.root, name)
	}
	found, _ := filepath.Glob(pattern)
	return len(found) > 0
}

// NoteDelegation writes down which controllers the machine's root cgroup does
// not give to its children yet, so that Restore can undo what Create does. A
// note that is there already is kept: it is from before the first change.
func (t Tree) NoteDelegation(file string) error {
	if !t.unified {
		return nil
	}
	if _, err := os.Stat(file); err == nil {
		return nil
	}
	missing, err := undelegated(t.root)
	if err != nil {
		return fmt.Errorf("look at the controllers of the root cgroup: %w", err)
	}
	data, err := json.Marshal(missing)
	if err != nil {
		return err
	}
	// A crash must not leave half a note: it would be kept, and "down" fail on it.
	whole := file + ".new"
	if err := os.WriteFile(whole, data, 0o644); err != nil {
		return err
	}
	return os.Rename(whole, file)
}

// Restore takes back from the root cgroup what the note says was not there.
func (t Tree) Restore(file string) error {
	data, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) || !t.unified {
		return nil
	}
	if err != nil {
		return err
	}
	var added []string
	if err := json.Unmarshal(data, &added); err != nil {
		return fmt.Errorf("read %s: %w: remove it, the machine's root cgroup stays as it is then", file, err)
	}
	for _, c := range added {
		// Somebody else may use the controller by now; then it stays.
		_ = os.WriteFile(filepath.Join(t.root, "cgroup.subtree_control"), []byte("-"+strings.TrimSpace(c)), 0)
	}
	return nil
}
