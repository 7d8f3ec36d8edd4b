// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// fakeNode puts a program in the place of nsenter that notes what it is to run in
// the node, answers "ctr images list" with a table, and imports what it is given.
func fakeNode(t *testing.T, table, whenImporting string) (shell NodeShell, notes func() []string) {
	t.Helper()
	dir := t.TempDir()
	log := filepath.Join(dir, "notes")
	if err := os.WriteFile(filepath.Join(dir, "table"), []byte(table), 0o600); err != nil {
		t.Fatal(err)
	}
	// What comes behind "HOME=/root" runs in the node.
	script := fmt.Sprintf(`#!/bin/sh
while [ "$1" != HOME=/root ]; do shift; done; shift
echo "$*" >>%[1]s/notes
case "$*" in
*" list") cat %[1]s/table ;;
*" import "*) cat >%[1]s/imported; %[2]s ;;
*) echo "to standard output"; echo "to standard error" >&2; exit 7 ;;
esac
`, dir, whenImporting)
	if err := os.WriteFile(filepath.Join(dir, "nsenter"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	return NodeShell{PID: 42}, func() []string {
		content, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Split(strings.TrimSpace(string(content)), "\n")
	}
}

const (
	listCommand   = "ctr --namespace k8s.io images list"
	importCommand = "ctr --namespace k8s.io images import --local --all-platforms -"
)

func TestLoadImages(t *testing.T) {
	row := func(name, digest string) string {
		return name + " application/vnd.oci.image.manifest.v1+json " + digest + " 1 KiB linux/amd64 -\n"
	}
	for _, tt := range []struct {
		name  string
		table string
		want  []string
	}{
		{"none is there", "REF TYPE DIGEST\n", []string{listCommand, importCommand}},
		{"all are there", row("r/a@sha256:11", "sha256:11") + row("r/b:1", "sha256:22"), []string{listCommand}},
		{"one is another by now", row("r/a@sha256:11", "sha256:11") + row("r/b:1", "sha256:99"), []string{listCommand, importCommand}},
		{"one is missing", row("r/a@sha256:11", "sha256:11"), []string{listCommand, importCommand}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			shell, notes := fakeNode(t, tt.table, "true")
			loaded, err := LoadImages(context.Background(), shell, archive(t, map[string]string{"index.json": index}))
			if err != nil || loaded != (len(tt.want) == 2) {
				t.Errorf("loaded %v, %v", loaded, err)
			}
			if got := notes(); !slices.Equal(got, tt.want) {
				t.Errorf("ran %q, want %q", got, tt.want)
			}
		})
	}
}

func TestLoadImagesHandsTheArchiveOver(t *testing.T) {
	shell, _ := fakeNode(t, "", "true")
	path := archive(t, map[string]string{"index.json": index})
	if _, err := LoadImages(context.Background(), shell, path); err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	directory, _, _ := strings.Cut(os.Getenv("PATH"), ":")
	if got, err := os.ReadFile(filepath.Join(directory, "imported")); err != nil || string(got) != string(want) {
		t.Errorf("the node got %d bytes, %v; want %d", len(got), err, len(want))
	}
}

func TestLoadImagesSaysWhatFailed(t *testing.T) {
	shell, _ := fakeNode(t, "", `echo "ctr: no space left on device" >&2; exit 1`)
	path := archive(t, map[string]string{"index.json": index})
	_, err := LoadImages(context.Background(), shell, path)
	want := "import " + path + ": ctr in node: exit status 1: ctr: no space left on device"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if _, err := LoadImages(context.Background(), shell, path+"-none"); !os.IsNotExist(err) {
		t.Errorf("an archive that is not there: %v", err)
	}
}

func TestOutputOfANode(t *testing.T) {
	shell, _ := fakeNode(t, "", "true")
	out, err := shell.Output(context.Background(), nil, "busybox", "nslookup", "x")
	if out != "to standard output\n" || err == nil || err.Error() != "busybox in node: exit status 7: to standard error" {
		t.Errorf("got %q, %v", out, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := shell.Output(ctx, nil, "true"); err == nil {
		t.Error("a command that was given up succeeds")
	}
}
