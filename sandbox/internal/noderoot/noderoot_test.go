// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package noderoot

import (
	"archive/tar"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// fakePackages gives a tar as Debian's packages would fill it.
type fakePackages struct {
	tar   string
	suite string
	names []string
	fail  error
}

func (f *fakePackages) PackageRoot(_ context.Context, suite string, names []string) (image.Artifact, error) {
	f.suite, f.names = suite, names
	return image.Artifact{Path: f.tar, Key: "key"}, f.fail
}

func debian(t *testing.T) *fakePackages {
	t.Helper()
	path := filepath.Join(t.TempDir(), "root.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for _, h := range []tar.Header{
		{Name: "./usr/sbin/iptables-nft", Typeflag: tar.TypeReg, Mode: 0o755},
		{Name: "./var/run/", Typeflag: tar.TypeDir, Mode: 0o755},
		{Name: "./var/lock/", Typeflag: tar.TypeDir, Mode: 0o777},
		{Name: "./etc/", Typeflag: tar.TypeDir, Mode: 0o755},
	} {
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return &fakePackages{tar: path}
}

func ensure(t *testing.T, p *fakePackages, cache string) (string, []string) {
	t.Helper()
	var said []string
	dir, err := Ensure(context.Background(), p, cache, func(format string, _ ...any) { said = append(said, format) })
	if err != nil {
		t.Fatal(err)
	}
	return dir, said
}

func TestEnsureCompletesWhatPackagesLeaveToTheirScripts(t *testing.T) {
	p := debian(t)
	dir, _ := ensure(t, p, t.TempDir())
	links := map[string]string{
		"var/run": "/run", "var/lock": "/run/lock", "etc/mtab": "../proc/self/mounts", "usr/sbin/iptables": "iptables-nft",
	}
	for name, want := range links {
		if got, err := os.Readlink(filepath.Join(dir, name)); err != nil || got != want {
			t.Errorf("%s leads to %q, %v; want %s", name, got, err, want)
		}
	}
	passwd, err := os.ReadFile(filepath.Join(dir, "etc/passwd"))
	if err != nil || !strings.HasPrefix(string(passwd), "root:x:0:0:") {
		t.Errorf("passwd %q, %v", passwd, err)
	}
	if p.suite != "trixie" || !slices.Contains(p.names, "runc") || !slices.Contains(p.names, "containernetworking-plugins") {
		t.Errorf("asked for %v of %s", p.names, p.suite)
	}
}

func TestEnsureUsesTheCache(t *testing.T) {
	p, cache := debian(t), t.TempDir()
	first, said := ensure(t, p, cache)
	if len(said) != 1 {
		t.Errorf("said %v", said)
	}
	if err := os.Remove(p.tar); err != nil {
		t.Fatal(err)
	}
	second, said := ensure(t, p, cache)
	if second != first || len(said) != 0 {
		t.Errorf("%s then %s, said %v", first, second, said)
	}
}

func TestEnsureStartsOverAfterACrash(t *testing.T) {
	p, cache := debian(t), t.TempDir()
	left := filepath.Join(cache, "noderoot", "key-"+layout+".new", "half")
	if err := os.MkdirAll(left, 0o755); err != nil {
		t.Fatal(err)
	}
	dir, _ := ensure(t, p, cache)
	if _, err := os.Stat(filepath.Join(dir, "half")); !os.IsNotExist(err) {
		t.Error("what a crash left is part of the result")
	}
}

func TestEnsureFailures(t *testing.T) {
	broken := debian(t)
	broken.fail = errors.New("no mirror")
	missing := &fakePackages{tar: "/no/such/root.tar"}
	for _, p := range []*fakePackages{broken, missing} {
		cache := t.TempDir()
		if _, err := Ensure(context.Background(), p, cache, func(string, ...any) {}); err == nil || !strings.Contains(err.Error(), "of nodes") {
			t.Errorf("error %v", err)
		}
		if dirs, _ := filepath.Glob(filepath.Join(cache, "noderoot", "key-"+layout)); len(dirs) != 0 {
			t.Errorf("a failure left %v", dirs)
		}
	}
}
