// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// told collects what a builder reports.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (t *told) say(line string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lines = append(t.lines, line)
}

func (t *told) all() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.lines)
}

// reporting is a builder that is never long enough at something to tell of it.
func reporting() (*Builder, *told) {
	heard := &told{}
	return &Builder{progress: heard.say, interval: time.Hour}, heard
}

func TestStepTellsBeginningAndEnd(t *testing.T) {
	b, heard := reporting()
	b.step("etcd").end(nil)
	if got := heard.all(); !slices.Equal(got, []string{"building etcd", "built etcd in 0s"}) {
		t.Errorf("told %q", got)
	}
}

// The error of a step that failed is told by whoever gets it, once.
func TestFailedStepTellsNoEnd(t *testing.T) {
	b, heard := reporting()
	b.step("etcd").end(errors.New("broken"))
	if got := heard.all(); !slices.Equal(got, []string{"building etcd"}) {
		t.Errorf("told %q", got)
	}
}

func TestQuietStepWithNothingToDo(t *testing.T) {
	b, heard := reporting()
	b.quietStep("programs").end(nil)
	if got := heard.all(); len(got) != 0 {
		t.Errorf("told %q", got)
	}
	s := b.quietStep("programs")
	s.note("package 1, fmt")
	s.end(nil)
	if got := heard.all(); !slices.Equal(got, []string{"built programs in 0s"}) {
		t.Errorf("told %q", got)
	}
}

func TestCountPackages(t *testing.T) {
	b, _ := reporting()
	s := b.quietStep("programs")
	defer s.end(nil)
	count := countPackages(s, " of at most 12")
	for _, tt := range []struct{ line, want string }{
		{"internal/abi", "package 1 of at most 12, internal/abi"},
		{"go: downloading example.org/a v1.2.3", "go: downloading example.org/a v1.2.3"},
		{"fmt", "package 2 of at most 12, fmt"},
	} {
		count(tt.line)
		if s.state != tt.want {
			t.Errorf("after %q: %q, want %q", tt.line, s.state, tt.want)
		}
	}
}

func TestArchivesAreListedOnce(t *testing.T) {
	got := archives("images", []image.Image{
		{Name: "virt-api", Archive: "/a.tar"}, {Name: "virt-handler", Archive: "/b.tar"}, {Name: "virt-operator", Archive: "/a.tar"},
	})
	if !slices.Equal(got, []Result{{Name: "images", Path: "/a.tar"}, {Name: "images", Path: "/b.tar"}}) {
		t.Errorf("got %v", got)
	}
}

// A crash between writing and renaming must leave the old digests.
func TestPublishNeverShowsHalfAFile(t *testing.T) {
	b := newBuilder(t)
	if err := b.Publish([]image.Image{{Name: "dvcr", Digest: "sha256:1"}}); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(b.stateDir, "images")
	if err := os.WriteFile(filepath.Join(dir, "images_digests.json.new"), []byte(`{"dv`), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := readDigests(t, filepath.Join(dir, "images_digests.json")); got["dvcr"] != "sha256:1" {
		t.Errorf("digests %v", got)
	}
	if err := b.Publish([]image.Image{{Name: "dvcr", Digest: "sha256:2"}}); err != nil {
		t.Fatal(err)
	}
	if got := readDigests(t, filepath.Join(dir, "images_digests.json")); got["dvcr"] != "sha256:2" {
		t.Errorf("digests %v", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}

func TestRunGivesStandardOutputAndShowsTheRest(t *testing.T) {
	var lines []string
	out, err := run(context.Background(), command{
		dir: t.TempDir(), env: []string{"GREETING=hello"},
		args: []string{"sh", "-c", `echo "$GREETING from $(basename $PWD)"; echo one >&2; echo two >&2`},
		line: func(line string) { lines = append(lines, line) },
	})
	if err != nil || !bytes.HasPrefix(out, []byte("hello from 00")) {
		t.Errorf("got %q, %v", out, err)
	}
	if !slices.Equal(lines, []string{"one", "two"}) {
		t.Errorf("showed %q", lines)
	}
}

func TestRunNamesAProgramThatIsNotThere(t *testing.T) {
	_, err := run(context.Background(), command{args: []string{"no-such-program"}})
	if err == nil || !strings.Contains(err.Error(), "no-such-program") {
		t.Errorf("got %v", err)
	}
}

// A command's children must not go on after it was given up: they would write into
// folders that are being removed.
func TestRunEndsTheChildrenToo(t *testing.T) {
	file := filepath.Join(t.TempDir(), "alive")
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	_, err := run(ctx, command{args: []string{"sh", "-c", "(while sleep 0.05; do date >>" + file + "; done) & wait"}})
	if err == nil {
		t.Error("it was not ended")
	}
	time.Sleep(150 * time.Millisecond)
	before, _ := os.ReadFile(file)
	time.Sleep(200 * time.Millisecond)
	if after, _ := os.ReadFile(file); len(after) != len(before) {
		t.Error("a child goes on")
	}
}
