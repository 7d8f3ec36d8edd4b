// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"testing"
)

func TestKeyDependsOnAllThatGoesIn(t *testing.T) {
	dir := t.TempDir()
	write := func(name, content string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write("go.mod", "module x")
	sum := func(k *key) string {
		t.Helper()
		got, err := k.sum()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	base := func() *key { return newKey().add("go", "go1.26").tree("module", dir) }
	first := sum(base())
	if sum(base()) != first {
		t.Error("the same has another key")
	}
	seen := map[string]string{first: "nothing"}
	differs := func(what string, k *key) {
		t.Helper()
		got := sum(k)
		if before, found := seen[got]; found {
			t.Errorf("a change of %s has the key of a change of %s", what, before)
		}
		seen[got] = what
	}
	differs("a value", newKey().add("go", "go1.27").tree("module", dir))
	differs("a name", newKey().add("gO", "go1.26").tree("module", dir))
	differs("one more value", base().add("flags", "-s"))
	differs("where values are split", newKey().add("go", "go1", ".26").tree("module", dir))
	write("go.mod", "module y")
	differs("a file", base())
	write("main.go", "package main")
	differs("one more file", base())
}

func TestKeyTellsWhatItCouldNotRead(t *testing.T) {
	for name, k := range map[string]*key{
		"file": newKey().file("x", "/nonexistent"),
		"tree": newKey().tree("x", "/nonexistent"),
	} {
		if _, err := k.sum(); !os.IsNotExist(err) {
			t.Errorf("%s: got error %v", name, err)
		}
	}
}
