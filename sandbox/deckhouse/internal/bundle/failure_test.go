// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package bundle

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// What was changed before a failure is told, since nothing tells it later.
func TestFailedSyncTellsWhatItChanged(t *testing.T) {
	b := newBundle(t)
	if _, err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(b.Source, "crds/one.yaml")); err != nil {
		t.Fatal(err)
	}
	blocked := filepath.Join(b.Target, "templates/b.yaml.new")
	write(t, filepath.Join(b.Source, "templates/b.yaml"), "kind: Service", 0o600)
	if err := os.Mkdir(blocked, 0o755); err != nil {
		t.Fatal(err)
	}
	change, err := b.Sync()
	if err == nil || !strings.Contains(err.Error(), "copy templates/b.yaml into the bundle") || change != Structure {
		t.Errorf("change %d, %v; want that of the CRD that is gone", change, err)
	}
	if err := os.Remove(blocked); err != nil {
		t.Fatal(err)
	}
	if change, err := b.Sync(); err != nil || change != Release {
		t.Errorf("the rest: change %d, %v", change, err)
	}
	if change, err := b.Sync(); err != nil || change != Nothing {
		t.Errorf("nothing left: change %d, %v", change, err)
	}
}

// A crash in the middle leaves a file under a temporary name, or half a bundle.
func TestSyncAfterACrash(t *testing.T) {
	b := newBundle(t)
	write(t, filepath.Join(b.Target, "templates/a/deployment.yml.new"), "half", 0o600)
	write(t, filepath.Join(b.Target, "templates/a/deployment.yml"), "old", 0o600)
	if _, err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	want := "Chart.yaml crds/one.yaml hooks/my-hooks module.yaml openapi/config-values.yaml templates/a/deployment.yml"
	if got := strings.Join(list(t, b.Target), " "); got != want {
		t.Errorf("got %s", got)
	}
	content, err := os.ReadFile(filepath.Join(b.Target, "templates/a/deployment.yml"))
	if err != nil || string(content) != "kind: Deployment" {
		t.Errorf("%q, %v", content, err)
	}
}

// A hook that runs keeps its file: the new one takes its place, it is not written over.
func TestRunningHookKeepsItsFile(t *testing.T) {
	b := newBundle(t)
	if _, err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	running, err := os.Open(filepath.Join(b.Target, "hooks/my-hooks"))
	if err != nil {
		t.Fatal(err)
	}
	defer running.Close()
	write(t, b.HookBinaries[0], "NEW", 0o700)
	if _, err := b.Sync(); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, 3)
	if _, err := running.ReadAt(got, 0); err != nil || string(got) != "ELF" {
		t.Errorf("the running hook became %q, %v", got, err)
	}
}

func TestHookThatIsNotThere(t *testing.T) {
	b := newBundle(t)
	b.HookBinaries = []string{filepath.Join(t.TempDir(), "none")}
	if _, err := b.Sync(); err == nil || !strings.Contains(err.Error(), "copy hooks/none into the bundle") {
		t.Errorf("got %v", err)
	}
	if got := b.Fingerprint(); !strings.Contains(got, "hooks/none absent") {
		t.Errorf("fingerprint %q", got)
	}
}

func TestChangeOf(t *testing.T) {
	for name, want := range map[string]Change{
		"templates/x/y.yaml": Release, "monitoring/rules.yaml": Release, "charts/a.tgz": Release, ".helmignore": Release,
		"Chart.yaml": Structure, "crds/x.yaml": Structure, "openapi/values.yaml": Structure, "hooks/x": Structure, "unknown": Structure,
	} {
		if got := changeOf(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}
