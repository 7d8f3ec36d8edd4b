// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"context"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// fakeUnshare puts a program in the place of unshare that prints its last
// argument's lines and ends with a code.
func fakeUnshare(t *testing.T, script string) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "unshare"), []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
}

func TestRunTellsEachLine(t *testing.T) {
	fakeUnshare(t, `for a in "$@"; do last=$a; done; echo "one $last"; echo two >&2`)
	var lines []string
	note := func(line string) { lines = append(lines, line) }
	if err := (root{dir: "/r"}).run(context.Background(), "/w", "/s", note, "/bin/bash", "tiny/assemble.sh"); err != nil {
		t.Fatal(err)
	}
	slices.Sort(lines)
	if !reflect.DeepEqual(lines, []string{"one tiny/assemble.sh", "two"}) {
		t.Errorf("got %q", lines)
	}
}

func TestRunShowsWhyItFailed(t *testing.T) {
	fakeUnshare(t, "echo 'mcopy: disk full' >&2; exit 3")
	err := (root{dir: "/r"}).run(context.Background(), "/w", "/s", func(string) {}, "/bin/bash", "tiny/assemble.sh")
	for _, want := range []string{"/bin/bash tiny/assemble.sh", "exit status 3", "mcopy: disk full"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in %v", want, err)
		}
	}
}

func TestRunEndsWithTheContext(t *testing.T) {
	fakeUnshare(t, "sleep 60")
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := (root{dir: "/r"}).run(ctx, "/w", "/s", func(string) {}, "true"); err == nil {
		t.Error("no error")
	}
}
