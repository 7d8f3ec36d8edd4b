// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

func write(t *testing.T, path, text string, mode fs.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), mode); err != nil {
		t.Fatal(err)
	}
}

func list(t *testing.T, dir string) []string {
	t.Helper()
	var names []string
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && !entry.IsDir() {
			names = append(names, strings.TrimPrefix(path, dir+"/"))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(names)
	return names
}

func newBundle(t *testing.T) Bundle {
	t.Helper()
	source := t.TempDir()
	for name, text := range map[string]string{
		"module.yaml":                "name: my-module",
		"Chart.yaml":                 "name: my-module",
		"openapi/config-values.yaml": "type: object",
		"templates/a/deployment.yml": "kind: Deployment",
		"crds/one.yaml":              "kind: CustomResourceDefinition",
		"internal/code.go":           "package internal",
		"hooks/go.mod":               "module hooks",
		"hooks/pkg/hook.go":          "package pkg",
	} {
		write(t, filepath.Join(source, name), text, 0o600)
	}
	binary := filepath.Join(t.TempDir(), "my-hooks")
	write(t, binary, "ELF", 0o700)
	return Bundle{Source: source, HookBinaries: []string{binary}, Target: filepath.Join(t.TempDir(), "my-module")}
}

func TestSyncCopiesThePartsOfARelease(t *testing.T) {
	b := newBundle(t)
	change, err := b.Sync()
	if err != nil {
		t.Fatal(err)
	}
	if change != Structure {
		t.Errorf("change %d", change)
	}
	want := []string{
		"Chart.yaml", "crds/one.yaml", "hooks/my-hooks", "module.yaml",
		"openapi/config-values.yaml", "templates/a/deployment.yml",
	}
	if got := list(t, b.Target); !reflect.DeepEqual(got, want) {
		t.Errorf("got %q", got)
	}
	info, err := os.Stat(filepath.Join(b.Target, "hooks/my-hooks"))
	if err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("hook binary: %v, %v", info, err)
	}
}

func TestSyncTellsWhatAChangeAsksFor(t *testing.T) {
	b := newBundle(t)
	if _, err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	steps := []struct {
		name string
		edit func()
		want Change
	}{
		{"no edit", func() {}, Nothing},
		{"a file outside of the module", func() { write(t, filepath.Join(b.Source, "README.md"), "x", 0o600) }, Nothing},
		{"a template", func() { write(t, filepath.Join(b.Source, "templates/b.yaml"), "x", 0o600) }, Release},
		{"a template is gone", func() { os.Remove(filepath.Join(b.Source, "templates/b.yaml")) }, Release},
		{"a schema", func() { write(t, filepath.Join(b.Source, "openapi/config-values.yaml"), "x", 0o600) }, Structure},
		{"the hook binary", func() { write(t, b.HookBinaries[0], "ELF2", 0o700) }, Structure},
		{"a CRD is gone", func() { os.Remove(filepath.Join(b.Source, "crds/one.yaml")) }, Structure},
	}
	for _, step := range steps {
		before := b.Fingerprint()
		step.edit()
		if changed := before != b.Fingerprint(); changed != (step.want != Nothing) {
			t.Errorf("%s: fingerprint changed: %v", step.name, changed)
		}
		got, err := b.Sync()
		if err != nil {
			t.Fatal(err)
		}
		if got != step.want {
			t.Errorf("%s: got %d, want %d", step.name, got, step.want)
		}
	}
}

func TestHooksOfAnUnpackedBundle(t *testing.T) {
	b := newBundle(t)
	b.HookBinaries = nil
	write(t, filepath.Join(b.Source, "hooks/released-hooks"), "ELF", 0o755)
	write(t, filepath.Join(b.Source, "hooks/script.sh"), "#!/bin/sh", 0o755)
	if _, err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	var hooks []string
	for _, name := range list(t, b.Target) {
		if strings.HasPrefix(name, "hooks/") {
			hooks = append(hooks, name)
		}
	}
	if !reflect.DeepEqual(hooks, []string{"hooks/released-hooks"}) {
		t.Errorf("got %q", hooks)
	}
}

func TestAFolderWithoutModule(t *testing.T) {
	b := Bundle{Source: t.TempDir(), Target: t.TempDir()}
	if _, err := b.Sync(); err == nil || !strings.Contains(err.Error(), "holds no module.yaml") {
		t.Errorf("got %v", err)
	}
	if got := b.Fingerprint(); !strings.Contains(got, "holds no module.yaml") {
		t.Errorf("fingerprint %q", got)
	}
}

func TestAddDigests(t *testing.T) {
	digests := filepath.Join(t.TempDir(), "any.json")
	if err := os.WriteFile(digests, []byte(`{"dvcr":"sha256:1"}`), 0o600); err != nil {
		t.Fatal(err)
	}
	b := Bundle{Target: t.TempDir()}
	if err := b.AddDigests(digests); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(filepath.Join(b.Target, "images_digests.json"))
	if err != nil || string(content) != `{"dvcr":"sha256:1"}` {
		t.Errorf("got %q, %v", content, err)
	}
	if err := b.AddDigests(filepath.Join(t.TempDir(), "none")); err == nil {
		t.Error("a bundle without digests was made")
	}
}
