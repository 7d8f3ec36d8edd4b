// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// upload lays out an upload as distribution does, its newest file that old.
func upload(t *testing.T, root, path string, age time.Duration) string {
	t.Helper()
	dir := filepath.Join(root, "docker/registry/v2/repositories", path)
	if err := os.MkdirAll(filepath.Join(dir, "hashstates/sha256"), 0o755); err != nil {
		t.Fatal(err)
	}
	for name, age := range map[string]time.Duration{"startedat": age + 24*time.Hour, "hashstates/sha256/0": age + time.Hour, "data": age} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("x"), 0o644); err != nil {
			t.Fatal(err)
		}
		setAge(t, filepath.Join(dir, name), age)
	}
	for _, name := range []string{"hashstates/sha256", "hashstates", "."} {
		setAge(t, filepath.Join(dir, name), age)
	}
	return dir
}

func setAge(t *testing.T, path string, age time.Duration) {
	t.Helper()
	if err := os.Chtimes(path, now.Add(-age), now.Add(-age)); err != nil {
		t.Fatal(err)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestPurgeUploads(t *testing.T) {
	root := t.TempDir()
	idle := upload(t, root, "vi/team/debian/_uploads/11111111-1111-1111-1111-111111111111", 61*time.Minute)
	running := upload(t, root, "vi/team/debian/_uploads/22222222-2222-2222-2222-222222222222", 59*time.Minute)
	idleToo := upload(t, root, "cvi/alpine/_uploads/33333333-3333-3333-3333-333333333333", 100*time.Hour)
	layer := upload(t, root, "cvi/alpine/_layers/sha256", 100*time.Hour)

	removed, err := purgeUploads(root, now.Add(-time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(removed)
	want := []string{
		"/docker/registry/v2/repositories/cvi/alpine/_uploads/33333333-3333-3333-3333-333333333333",
		"/docker/registry/v2/repositories/vi/team/debian/_uploads/11111111-1111-1111-1111-111111111111",
	}
	if !slices.Equal(removed, want) {
		t.Errorf("removed %q, want %q", removed, want)
	}
	for path, want := range map[string]bool{idle: false, idleToo: false, running: true, layer: true} {
		if exists(path) != want {
			t.Errorf("%s exists: %t", path, !want)
		}
	}
}

func TestPurgeUploadsOfAnEmptyRegistry(t *testing.T) {
	if removed, err := purgeUploads(t.TempDir(), now); err != nil || len(removed) != 0 {
		t.Errorf("%q, %v", removed, err)
	}
}

func TestPurgeIdleUploadsComesAgain(t *testing.T) {
	root := t.TempDir()
	dir := upload(t, root, "vi/team/debian/_uploads/11111111-1111-1111-1111-111111111111", 0)
	clock := clocktesting.NewFakeClock(now)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		PurgeIdleUploads(ctx, root, clock, slog.New(slog.NewTextHandler(io.Discard, nil)))
		close(done)
	}()
	for passed := time.Duration(0); passed < 2*time.Hour && exists(dir); passed += 10 * time.Minute {
		for !clock.HasWaiters() {
			time.Sleep(time.Millisecond)
		}
		if passed < time.Hour && !exists(dir) {
			t.Errorf("removed after %s", passed)
		}
		clock.Step(10 * time.Minute)
	}
	for deadline := time.Now().Add(10 * time.Second); exists(dir) && time.Now().Before(deadline); {
		time.Sleep(time.Millisecond)
	}
	if exists(dir) {
		t.Error("an idle upload is still there after two hours")
	}
	cancel()
	<-done
}
