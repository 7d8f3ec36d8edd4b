// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// write makes a file with its directories.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// separate lays out a machine with version 1.
func separate(t *testing.T) Tree {
	root := t.TempDir()
	write(t, filepath.Join(root, "cpuset", "cpuset.cpus"), "0-1\n")
	write(t, filepath.Join(root, "cpuset", "cpuset.mems"), "0\n")
	for _, dir := range []string{"memory", "pids", "unified"} {
		if err := os.Mkdir(filepath.Join(root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return Tree{root: root}
}

func TestCreateInEveryHierarchyButTheHybridOne(t *testing.T) {
	tree := separate(t)
	if err := tree.Create("sandbox/node-1"); err != nil {
		t.Fatal(err)
	}
	for dir, want := range map[string]bool{"cpuset": true, "memory": true, "pids": true, "unified": false} {
		_, err := os.Stat(filepath.Join(tree.root, dir, "sandbox", "node-1"))
		if (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
	if err := tree.Create("sandbox/node-1"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

// The kernel makes the files of a new cpuset; here they have to be there before.
func TestCreateFillsCPUSets(t *testing.T) {
	tree := separate(t)
	for _, dir := range []string{"cpuset/sandbox", "cpuset/sandbox/node-1"} {
		write(t, filepath.Join(tree.root, dir, "cpuset.cpus"), "\n")
		write(t, filepath.Join(tree.root, dir, "cpuset.mems"), "\n")
	}
	if err := tree.Create("sandbox/node-1"); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"cpuset/sandbox", "cpuset/sandbox/node-1"} {
		if got := read(t, filepath.Join(tree.root, dir, "cpuset.cpus")); got != "0-1\n" {
			t.Errorf("%s: processors %q", dir, got)
		}
		if got := read(t, filepath.Join(tree.root, dir, "cpuset.mems")); got != "0\n" {
			t.Errorf("%s: memory nodes %q", dir, got)
		}
	}
}

func TestCreateWithoutHierarchies(t *testing.T) {
	if err := (Tree{root: t.TempDir()}).Create("sandbox"); err == nil || !strings.Contains(err.Error(), "mount cgroups there") {
		t.Errorf("error %v", err)
	}
}

func TestEnter(t *testing.T) {
	tree := separate(t)
	if err := tree.Create("sandbox"); err != nil {
		t.Fatal(err)
	}
	if err := tree.Enter("sandbox", 42); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{"cpuset", "memory", "pids"} {
		if got := read(t, filepath.Join(tree.root, dir, "sandbox", "cgroup.procs")); got != "42" {
			t.Errorf("%s: %q", dir, got)
		}
	}
}

// unified lays out a machine with version 2 whose root gives on only memory.
func unified(t *testing.T) Tree {
	root := t.TempDir()
	write(t, filepath.Join(root, "cgroup.controllers"), "cpu memory pids\n")
	write(t, filepath.Join(root, "cgroup.subtree_control"), "memory\n")
	write(t, filepath.Join(root, "sandbox", "cgroup.controllers"), "\n")
	write(t, filepath.Join(root, "sandbox", "cgroup.subtree_control"), "\n")
	return Tree{root: root, unified: true}
}

func TestCreateDelegatesControllers(t *testing.T) {
	tree := unified(t)
	if err := tree.Create("sandbox/node-1"); err != nil {
		t.Fatal(err)
	}
	// A real file would collect them; this one keeps the last one written.
	if got := read(t, filepath.Join(tree.root, "cgroup.subtree_control")); got != "+pids" {
		t.Errorf("asked the root for %q", got)
	}
}

func TestDelegationIsNotedOnceAndRestored(t *testing.T) {
	tree := unified(t)
	note := filepath.Join(t.TempDir(), "note")
	if err := tree.NoteDelegation(note); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(tree.root, "cgroup.subtree_control"), "memory cpu pids\n")
	if err := tree.NoteDelegation(note); err != nil {
		t.Fatal(err)
	}
	if got := read(t, note); got != `["cpu","pids"]` {
		t.Fatalf("noted %s", got)
	}
	if err := tree.Restore(note); err != nil {
		t.Fatal(err)
	}
	if got := read(t, filepath.Join(tree.root, "cgroup.subtree_control")); got != "-pids" {
		t.Errorf("took back %q last", got)
	}
}

func TestRestoreWithoutNote(t *testing.T) {
	if err := unified(t).Restore(filepath.Join(t.TempDir(), "none")); err != nil {
		t.Error(err)
	}
	if err := separate(t).NoteDelegation("/no/such/directory/note"); err != nil {
		t.Errorf("version 1 needs no note: %v", err)
	}
}

func TestRemoveTakesContainersCgroupsAndTheHybridOnes(t *testing.T) {
	tree := separate(t)
	for _, dir := range []string{"memory/sandbox/node-1/kubepods/pod1", "unified/sandbox/node-1/kubepods", "pids/other"} {
		if err := os.MkdirAll(filepath.Join(tree.root, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if !tree.Exists("sandbox") {
		t.Error("cgroup does not exist")
	}
	if err := tree.Remove("sandbox"); err != nil {
		t.Fatal(err)
	}
	if tree.Exists("sandbox") || !tree.Exists("other") {
		t.Errorf("sandbox: %t, other: %t", tree.Exists("sandbox"), tree.Exists("other"))
	}
	if err := tree.Remove("sandbox"); err != nil {
		t.Errorf("a second time: %v", err)
	}
}

func TestRemoveInOneTree(t *testing.T) {
	tree := unified(t)
	for _, file := range []string{"cgroup.controllers", "cgroup.subtree_control"} {
		if err := os.Remove(filepath.Join(tree.root, "sandbox", file)); err != nil {
			t.Fatal(err)
		}
	}
	if !tree.Exists("sandbox") || !tree.Unified() {
		t.Fatal("cgroup does not exist")
	}
	if err := tree.Remove("sandbox"); err != nil || tree.Exists("sandbox") {
		t.Errorf("removed: %v", err)
	}
}

func TestDetect(t *testing.T) {
	if _, err := Detect(); err != nil {
		t.Error(err)
	}
}
