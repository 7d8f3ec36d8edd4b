// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fakeWorkshop makes folders at once and remembers what was bootstrapped.
type fakeWorkshop struct {
	dir     string
	options []string
	made    []string
	fail    error
}

func (w *fakeWorkshop) Cached(ctx context.Context, kind, name, key string, create func(context.Context, string) error) (string, error) {
	dir := filepath.Join(w.dir, kind, name+"-"+key[:16])
	if _, err := os.Stat(dir); err == nil {
		return dir, nil
	}
	w.made = append(w.made, kind+"/"+name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	return dir, create(ctx, dir)
}

func (w *fakeWorkshop) Bootstrap(_ context.Context, what, suite, _ string, options ...string) error {
	w.options = append([]string{what, suite}, options...)
	return w.fail
}

func (w *fakeWorkshop) Step(_ string, work func(func(string)) error) error {
	return work(func(string) {})
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestGuestIsMadeOnceForEachDescription(t *testing.T) {
	w := &fakeWorkshop{dir: t.TempDir()}
	b := &builder{workshop: w, sources: t.TempDir()}
	write(t, filepath.Join(b.sources, "tiny/init"), "one")
	create := func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "tiny.qcow2"), []byte("disk"), 0o600)
	}
	dirs := map[string]bool{}
	for _, text := range []string{"one", "one", "two", "one"} {
		write(t, filepath.Join(b.sources, "tiny/init"), text)
		dir, err := b.guest(context.Background(), "tiny", create)
		if err != nil {
			t.Fatal(err)
		}
		dirs[dir] = true
		sum, err := os.ReadFile(filepath.Join(dir, "tiny.qcow2.sha256"))
		want := "1044dec7206e8d7c9fbb4ae8f766668406d2567fc7fc1a160a9d4700fcf8f8e9  tiny.qcow2\n"
		if err != nil || string(sum) != want {
			t.Errorf("checksum %q, %v", sum, err)
		}
	}
	if len(dirs) != 2 || !reflect.DeepEqual(w.made, []string{"guests/tiny", "guests/tiny"}) {
		t.Errorf("made %v in %v", w.made, dirs)
	}
}

func TestAnExecuteBitIsPartOfTheDescription(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "init"), "text")
	before, err := hashTree(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Join(dir, "init"), 0o755); err != nil {
		t.Fatal(err)
	}
	if after, err := hashTree(dir); err != nil || after == before {
		t.Errorf("same key: %v", err)
	}
}

func TestDebianIsMadeOfItsListOfPackages(t *testing.T) {
	w := &fakeWorkshop{dir: t.TempDir(), fail: errors.New("no network")}
	b := &builder{workshop: w, sources: "/src/guests"}
	if err := b.debian(context.Background(), t.TempDir()); err == nil || !strings.Contains(err.Error(), "packages") {
		t.Errorf("without a list: %v", err)
	}
	b.sources = t.TempDir()
	write(t, filepath.Join(b.sources, "debian-13/packages"), "cloud-init\nudev\n")
	if err := b.debian(context.Background(), t.TempDir()); err == nil || err.Error() != "no network" {
		t.Errorf("got %v", err)
	}
	for _, want := range []string{
		"--include=cloud-init,udev",
		"--customize-hook='" + b.sources + `/debian-13/customize.sh' "$1"`,
		"--dpkgopt=path-exclude=/usr/share/man/*",
	} {
		if !slices.Contains(w.options, want) {
			t.Errorf("%s is missing in %q", want, w.options)
		}
	}
}

func TestBadFiles(t *testing.T) {
	w := &fakeWorkshop{dir: t.TempDir()}
	dir, err := (&builder{workshop: w}).badFiles(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		if filepath.Ext(entry.Name()) != ".sha256" {
			names = append(names, entry.Name())
		}
	}
	want := []string{
		"backing-file.qcow2", "data-file.qcow2", "empty.qcow2", "huge.qcow2", "text.qcow2",
		"truncated.qcow2", "unknown-feature.qcow2",
	}
	if !reflect.DeepEqual(names, want) {
		t.Errorf("got %q", names)
	}
}

func TestBackingFileIsWhereTheHeaderSays(t *testing.T) {
	image := badContents()["backing-file.qcow2"]
	if string(image[:4]) != "QFI\xfb" || image[7] != 3 {
		t.Errorf("begins with % x", image[:8])
	}
	// Bytes 8 to 15 are the offset of the name, 16 to 19 its length.
	offset, length := int(image[15]), int(image[19])
	if got := string(image[offset : offset+length]); got != "/etc/passwd" {
		t.Errorf("name %q", got)
	}
	if len(image) != 4*65536 {
		t.Errorf("size %d", len(image))
	}
	// Bytes 72 to 79 are the incompatible features.
	if bits := badContents()["data-file.qcow2"][79]; bits != 4 {
		t.Errorf("features %d", bits)
	}
}

func TestPublish(t *testing.T) {
	cache, target := t.TempDir(), t.TempDir()
	write(t, filepath.Join(cache, "tiny/tiny.qcow2"), "new")
	write(t, filepath.Join(cache, "bad/text.qcow2"), "bad")
	write(t, filepath.Join(target, "tiny.qcow2"), "old")
	write(t, filepath.Join(target, "bad/gone.qcow2"), "gone")
	results := []Result{{Dir: filepath.Join(cache, "tiny")}, {Prefix: "bad", Dir: filepath.Join(cache, "bad")}}

	reader, err := os.Open(filepath.Join(target, "tiny.qcow2"))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	for range 2 {
		if err := Publish(results, target); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"tiny.qcow2": "new", "bad/text.qcow2": "bad"} {
		if got, err := os.ReadFile(filepath.Join(target, name)); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := os.Stat(filepath.Join(target, "bad/gone.qcow2")); err == nil {
		t.Error("a file that nobody makes any more is still served")
	}
	old := make([]byte, 3)
	if _, err := reader.Read(old); err != nil || string(old) != "old" {
		t.Errorf("a reader of the old file got %q, %v", old, err)
	}
}

func TestCopyFileKeepsTheTime(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "a"), "text")
	if err := copyFile(filepath.Join(dir, "a"), filepath.Join(dir, "b")); err != nil {
		t.Fatal(err)
	}
	if !same(filepath.Join(dir, "a"), filepath.Join(dir, "b")) {
		t.Error("the copy is not recognized")
	}
}

func TestTailKeepsTheLastLines(t *testing.T) {
	var kept tail
	for range 30 {
		kept.add("old")
	}
	kept.add("last")
	lines := strings.Split(strings.TrimSpace(kept.String()), "\n")
	if len(lines) != 20 || lines[19] != "last" {
		t.Errorf("got %d lines, the last is %q", len(lines), lines[len(lines)-1])
	}
}
