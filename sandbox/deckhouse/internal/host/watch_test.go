// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/deckhouse/deckhouse/pkg/log"
	clocktesting "k8s.io/utils/clock/testing"
)

// watched is a host that has loaded its module.
func watched(t *testing.T) *Host {
	t.Helper()
	h := &Host{options: newOptions(t), logger: log.NewNop()}
	if err := h.loadModule(); err != nil {
		t.Fatal(err)
	}
	return h
}

// watching runs the watch of the files; step lets a second pass and returns the
// error that the watch has ended with, if it has.
func watching(t *testing.T, h *Host) (step func() error) {
	t.Helper()
	ticks := clocktesting.NewFakeClock(time.Unix(0, 0))
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		ended <- h.watchFiles(ctx, ticks)
	}()
	t.Cleanup(func() {
		cancel()
		<-gone
	})
	for !ticks.HasWaiters() {
		time.Sleep(time.Millisecond)
	}
	return func() error {
		ticks.Step(time.Second)
		select {
		case err := <-ended:
			return err
		case <-time.After(20 * time.Millisecond):
			return nil
		}
	}
}

// within expects the watch to ask for a restart soon.
func within(t *testing.T, step func() error) {
	t.Helper()
	for range 500 {
		if err := step(); err != nil {
			if !errors.Is(err, ErrRestart) {
				t.Errorf("got %v", err)
			}
			return
		}
	}
	t.Error("the change was never noticed")
}

func TestWatchFilesAsksForARestart(t *testing.T) {
	h := watched(t)
	step := watching(t, h)
	write(t, filepath.Join(h.options.ModuleDir, "openapi/config-values.yaml"), "type: object\n")
	within(t, step)
}

// The start takes many seconds, in which somebody goes on editing.
func TestEditDuringTheStartIsNoticed(t *testing.T) {
	h := watched(t)
	write(t, filepath.Join(h.options.ModuleDir, "openapi/config-values.yaml"), "type: object\n# edited meanwhile\n")
	within(t, watching(t, h))
}

// A copy that fails in the middle has changed something already; the next one
// that succeeds finds nothing left to change.
func TestChangeOutlivesAFailedCopy(t *testing.T) {
	h := watched(t)
	step := watching(t, h)
	// A folder is in the way of the copy of a template, but not of the schema.
	blocked := filepath.Join(h.bundle.Target, "templates", "new.yaml.new")
	if err := os.MkdirAll(filepath.Join(blocked, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(h.options.ModuleDir, "crds/new.yaml"), "kind: CustomResourceDefinition\n")
	write(t, filepath.Join(h.options.ModuleDir, "templates/new.yaml"), "kind: ConfigMap\n")
	for range 10 {
		if err := step(); err != nil {
			t.Fatalf("ended with %v while the copy is not whole", err)
		}
	}
	// Files are copied in no certain order, so it takes a few tries until all but
	// the one in the way are there.
	for range 100 {
		if _, err := os.Stat(filepath.Join(h.bundle.Target, "crds/new.yaml")); err == nil {
			break
		}
		if err := step(); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(blocked); err != nil {
		t.Fatal(err)
	}
	within(t, step)
}

func TestQuietFilesAskForNothing(t *testing.T) {
	h := watched(t)
	step := watching(t, h)
	write(t, filepath.Join(h.options.ModuleDir, "README.md"), "not part of the module\n")
	for range 5 {
		if err := step(); err != nil {
			t.Fatalf("ended with %v", err)
		}
	}
}

// Another version brings other hooks and schemas, so it asks for a restart.
func TestAnotherVersionAsksForARestart(t *testing.T) {
	h := watched(t)
	step := watching(t, h)
	if err := os.Symlink(filepath.Join(h.options.releasesDir(), "v0.2.0"), h.options.releaseLink()); err != nil {
		t.Fatal(err)
	}
	within(t, step)
}
