// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A note is whole or not there: half a note would be kept for ever.
func TestNoteIsWhole(t *testing.T) {
	tree, dir := unified(t), t.TempDir()
	note := filepath.Join(dir, "note")
	// What a crash in the middle left.
	write(t, note+".new", `["cpu","pi`)
	if err := tree.NoteDelegation(note); err != nil {
		t.Fatal(err)
	}
	if got := read(t, note); got != `["cpu","pids"]` {
		t.Errorf("noted %s", got)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left %v, %v", left, err)
	}
	if err := tree.NoteDelegation(filepath.Join(dir, "none", "note")); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}

func TestDamagedNoteSaysWhatToDo(t *testing.T) {
	tree := unified(t)
	note := filepath.Join(t.TempDir(), "note")
	write(t, note, "")
	err := tree.Restore(note)
	if err == nil || !strings.HasPrefix(err.Error(), "read "+note+": ") || !strings.Contains(err.Error(), "remove it") {
		t.Errorf("got %v", err)
	}
	if got := read(t, filepath.Join(tree.root, "cgroup.subtree_control")); got != "memory\n" {
		t.Errorf("the root was changed to %q", got)
	}
}

// Processors that an administrator gave to the cgroup stay.
func TestCreateKeepsProcessorsThatWereGiven(t *testing.T) {
	tree := separate(t)
	write(t, filepath.Join(tree.root, "cpuset/sandbox/cpuset.cpus"), "1\n")
	write(t, filepath.Join(tree.root, "cpuset/sandbox/cpuset.mems"), "\n")
	write(t, filepath.Join(tree.root, "cpuset/sandbox/node-1/cpuset.cpus"), "\n")
	write(t, filepath.Join(tree.root, "cpuset/sandbox/node-1/cpuset.mems"), "\n")
	if err := tree.Create("/sandbox/node-1/"); err != nil {
		t.Fatal(err)
	}
	for file, want := range map[string]string{
		"cpuset/sandbox/cpuset.cpus": "1\n", "cpuset/sandbox/cpuset.mems": "0\n",
		"cpuset/sandbox/node-1/cpuset.cpus": "1\n", "cpuset/sandbox/node-1/cpuset.mems": "0\n",
	} {
		if got := read(t, filepath.Join(tree.root, file)); got != want {
			t.Errorf("%s has %q, want %q", file, got, want)
		}
	}
}

func TestEnterNamesTheCgroup(t *testing.T) {
	err := separate(t).Enter("sandbox/none", 42)
	if err == nil || !strings.HasPrefix(err.Error(), "enter cgroup sandbox/none: ") || !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestUndelegated(t *testing.T) {
	for _, tt := range []struct{ have, given, want string }{
		{"cpu memory pids\n", "memory\n", "cpu pids"},
		{"cpu memory\n", "cpu memory\n", ""},
		{"\n", "\n", ""},
		{"cpu\n", "", "cpu"},
	} {
		dir := t.TempDir()
		write(t, filepath.Join(dir, "cgroup.controllers"), tt.have)
		write(t, filepath.Join(dir, "cgroup.subtree_control"), tt.given)
		got, err := undelegated(dir)
		if err != nil || strings.Join(got, " ") != tt.want {
			t.Errorf("of %q, given %q: %v, %v", tt.have, tt.given, got, err)
		}
	}
	if _, err := undelegated(t.TempDir()); !os.IsNotExist(err) {
		t.Errorf("no cgroup: %v", err)
	}
}
