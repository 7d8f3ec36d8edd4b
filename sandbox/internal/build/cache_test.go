// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

var someDay = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func newCache(t *testing.T) (*cache, *clocktesting.FakePassiveClock) {
	t.Helper()
	clock := clocktesting.NewFakePassiveClock(someDay)
	return &cache{dir: t.TempDir(), clock: clock, progress: func(string) {}}, clock
}

// writer makes a folder with one file.
func writer(content string) func(context.Context, string) error {
	return func(_ context.Context, dir string) error {
		return os.WriteFile(filepath.Join(dir, "file"), []byte(content), 0o644)
	}
}

func never(context.Context, string) error { return errors.New("made again") }

const (
	firstKey  = "0123456789abcdef0123456789abcdef"
	secondKey = "fedcba9876543210fedcba9876543210"
)

func TestEnsureMakesOnce(t *testing.T) {
	c, _ := newCache(t)
	dir, err := c.Ensure(t.Context(), "kind", "name", firstKey, writer("content"))
	if err != nil {
		t.Fatal(err)
	}
	if want := filepath.Join(c.dir, "kind", "name-0123456789abcdef"); dir != want {
		t.Errorf("the folder is %s, want %s", dir, want)
	}
	again, err := c.Ensure(t.Context(), "kind", "name", firstKey, never)
	if err != nil || again != dir {
		t.Errorf("the second time: %s, %v", again, err)
	}
	other, err := c.Ensure(t.Context(), "kind", "name", secondKey, writer("other"))
	if err != nil || other == dir {
		t.Errorf("another key: %s, %v", other, err)
	}
}

func TestEnsureLeavesNothingHalfDone(t *testing.T) {
	c, _ := newCache(t)
	failure := errors.New("no luck")
	_, err := c.Ensure(t.Context(), "kind", "name", firstKey, func(ctx context.Context, dir string) error {
		return errors.Join(writer("half")(ctx, dir), failure)
	})
	if !errors.Is(err, failure) {
		t.Fatalf("got error %v", err)
	}
	// As after a crash: the folder of work is there, with something in it.
	left := filepath.Join(c.dir, "kind", temporaryPrefix+"name")
	if err := os.MkdirAll(filepath.Join(left, "rubbish"), 0o755); err != nil {
		t.Fatal(err)
	}
	dir, err := c.Ensure(t.Context(), "kind", "name", firstKey, writer("whole"))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 1 || entries[0].Name() != "file" {
		t.Errorf("the folder holds %v, %v", entries, err)
	}
	if _, err := os.Stat(left); !os.IsNotExist(err) {
		t.Errorf("the folder of work is still there: %v", err)
	}
}

func TestEnsureForgetsWhatNobodyUses(t *testing.T) {
	c, clock := newCache(t)
	ensure := func(name, key string) string {
		t.Helper()
		dir, err := c.Ensure(t.Context(), "kind", name, key, writer(""))
		if err != nil {
			t.Fatal(err)
		}
		return dir
	}
	old := ensure("name", firstKey)
	neighbour := ensure("name-more", firstKey)
	clock.SetTime(someDay.Add(6 * 24 * time.Hour))
	current := ensure("name", secondKey)
	if _, err := os.Stat(old); err != nil {
		t.Errorf("removed after six days: %v", err)
	}
	clock.SetTime(someDay.Add(8 * 24 * time.Hour))
	newest := ensure("name", strings.Repeat("a", 32))
	if _, err := os.Stat(old); !os.IsNotExist(err) {
		t.Errorf("still there after eight days: %v", err)
	}
	for _, dir := range []string{neighbour, current, newest} {
		if _, err := os.Stat(dir); err != nil {
			t.Error(err)
		}
	}
}

func TestEnsureKeepsFewOfManyVersions(t *testing.T) {
	for kind, tc := range map[string]struct{ made, gone int }{
		"kind": {made: 5, gone: 2},
		// One run asks for that many, each time.
		"debian": {made: 11, gone: 2},
	} {
		t.Run(kind, func(t *testing.T) {
			c, clock := newCache(t)
			var dirs []string
			for i := range tc.made {
				clock.SetTime(someDay.Add(time.Duration(i) * time.Minute))
				dir, err := c.Ensure(t.Context(), kind, "name", strings.Repeat(string(rune('a'+i)), 32), writer(""))
				if err != nil {
					t.Fatal(err)
				}
				dirs = append(dirs, dir)
			}
			for i, dir := range dirs {
				if _, err := os.Stat(dir); (err == nil) != (i >= tc.gone) {
					t.Errorf("version %d of %d: %v", i, tc.made, err)
				}
			}
		})
	}
}

func TestEnsureIsDoneByOneAtATime(t *testing.T) {
	c, _ := newCache(t)
	var made atomic.Int32
	var group sync.WaitGroup
	for range 4 {
		group.Go(func() {
			_, err := c.Ensure(t.Context(), "kind", "name", firstKey, func(context.Context, string) error {
				made.Add(1)
				time.Sleep(10 * time.Millisecond)
				return nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	if made.Load() != 1 {
		t.Errorf("made %d times", made.Load())
	}
}

func TestLockGivesUpWithTheContext(t *testing.T) {
	c, _ := newCache(t)
	var waited string
	c.progress = func(line string) { waited = line }
	unlock, err := c.lock(t.Context(), "kind", "name")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := c.lock(ctx, "kind", "name"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got error %v", err)
	}
	if want := "waiting for kind name, which another run is making"; waited != want {
		t.Errorf("said %q, want %q", waited, want)
	}
	unlock()
	unlock, err = c.lock(t.Context(), "kind", "name")
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}
