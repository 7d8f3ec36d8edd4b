// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cgroup makes and removes the sandbox's cgroups, on machines with
// version 1 (one hierarchy for each controller) and version 2 (one for all).
package cgroup

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Mount is where machines have their cgroups.
const Mount = "/sys/fs/cgroup"

// Tree is a machine's cgroups.
type Tree struct {
	root    string
	unified bool
}

// Detect looks at how cgroups are mounted.
func Detect() (Tree, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(Mount, &fs); err != nil {
		return Tree{}, fmt.Errorf("look at %s: %w: mount cgroups there", Mount, err)
	}
	return Tree{root: Mount, unified: fs.Type == unix.CGROUP2_SUPER_MAGIC}, nil
}

// Unified says whether this is version 2.
func (t Tree) Unified() bool { return t.unified }

// hierarchies lists the directories under which a cgroup has to be made. The
// "unified" directory of a hybrid machine holds no controller that nodes use.
func (t Tree) hierarchies() ([]string, error) {
	if t.unified {
		return []string{t.root}, nil
	}
	entries, err := os.ReadDir(t.root)
	if err != nil {
		return nil, fmt.Errorf("list cgroup hierarchies: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		// cpu and cpuacct may be links to one directory; the links would only
		// make everything twice.
		if e.IsDir() && e.Name() != "unified" {
			dirs = append(dirs, filepath.Join(t.root, e.Name()))
		}
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("%s holds no cgroup hierarchy: mount cgroups there", t.root)
	}
	return dirs, nil
}

// Create makes a cgroup and its parents, ready to hold cgroups of their own.
func (t Tree) Create(name string) error {
	dirs, err := t.hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		if err := t.createIn(dir, name); err != nil {
			return fmt.Errorf("create cgroup %s: %w", name, err)
		}
	}
	return nil
}

func (t Tree) createIn(hierarchy, name string) error {
	dir := hierarchy
	for _, part := range strings.Split(strings.Trim(name, "/"), "/") {
		parent := dir
		dir = filepath.Join(parent, part)
		if t.unified {
			if err := delegate(parent); err != nil {
				return err
			}
		}
		if err := os.Mkdir(dir, 0o755); err != nil && !os.IsExist(err) {
			return err
		}
		if err := inheritCPUSet(parent, dir); err != nil {
			return err
		}
	}
	return nil
}

// delegate lets the children of a version 2 cgroup use all its controllers.
func delegate(dir string) error {
	missing, err := undelegated(dir)
	if err != nil {
		return err
	}
	for _, c := range missing {
		// One at a time: a controller that is in use elsewhere (a realtime
		// process holds cpu) must not keep the others away.
		_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte("+"+c), 0)
	}
	return nil
}

// undelegated lists the controllers of a version 2 cgroup that its children lack.
func undelegated(dir string) ([]string, error) {
	have, err := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
	if err != nil {
		return nil, err
	}
	given, err := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	if err != nil {
		return nil, err
	}
	on := map[string]bool{}
	for _, c := range strings.Fields(string(given)) {
		on[c] = true
	}
	var missing []string
	for _, c := range strings.Fields(string(have)) {
		if !on[c] {
			missing = append(missing, c)
		}
	}
	return missing, nil
}

// inheritCPUSet copies the processors and memory nodes of the parent: a new
// version 1 cpuset has none, and no process may enter it.
func inheritCPUSet(parent, dir string) error {
	for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
		own, err := os.ReadFile(filepath.Join(dir, file))
		if os.IsNotExist(err) || (err == nil && strings.TrimSpace(string(own)) != "") {
			continue
		}
		value, err := os.ReadFile(filepath.Join(parent, file))
		if os.IsNotExist(err) || (err == nil && strings.TrimSpace(string(value)) == "") {
			continue
		}
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(dir, file), value, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// Enter moves a process into a cgroup in every hierarchy.
func (t Tree) Enter(name string, pid int) error {
	dirs, err := t.hierarchies()
	if err != nil {
		return err
	}
	for _, dir := range dirs {
		file := filepath.Join(dir, name, "cgroup.procs")
		if err := os.WriteFile(file, []byte(strconv.Itoa(pid)), 0o644); err != nil {
			return fmt.Errorf("enter cgroup %s: %w", name, err)
		}
	}
	return nil
}
