// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"archive/tar"
	"context"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// archive writes a tar of files.
func archive(t *testing.T, files map[string]string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "images.tar")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	for name, content := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(content)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

const (
	index = `{"manifests":[
		{"digest":"sha256:11","annotations":{"io.containerd.image.name":"r/a@sha256:11"}},
		{"digest":"sha256:22","annotations":{"io.containerd.image.name":"r/b:1"}},
		{"digest":"sha256:33"}]}`
	manifest = `[{"RepoTags":["r/b:1","r/c:1"]}]`
)

func TestArchiveImages(t *testing.T) {
	tests := []struct {
		name    string
		files   map[string]string
		want    map[string]string
		problem string
	}{
		{name: "oci", files: map[string]string{"index.json": index, "blobs/x": "x"}, want: map[string]string{"r/a@sha256:11": "sha256:11", "r/b:1": "sha256:22"}},
		{name: "docker", files: map[string]string{"./manifest.json": manifest}, want: map[string]string{"r/b:1": "", "r/c:1": ""}},
		{
			name: "both", files: map[string]string{"index.json": index, "manifest.json": manifest},
			want: map[string]string{"r/a@sha256:11": "sha256:11", "r/b:1": "sha256:22", "r/c:1": ""},
		},
		{name: "another tar", files: map[string]string{"etc/passwd": ""}, problem: "holds neither index.json nor manifest.json"},
		{name: "damaged", files: map[string]string{"index.json": "{"}, problem: "file index.json"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := ArchiveImages(archive(t, tt.files))
			if tt.problem != "" {
				if err == nil || !strings.Contains(err.Error(), tt.problem) {
					t.Fatalf("error %v, want one with %q", err, tt.problem)
				}
				return
			}
			if err != nil || !maps.Equal(got, tt.want) {
				t.Fatalf("got %v, %v, want %v", got, err, tt.want)
			}
		})
	}
}

func TestArchiveImagesOfNoTar(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(path, []byte(strings.Repeat("no tar ", 1000)), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := ArchiveImages(path); err == nil || !strings.Contains(err.Error(), "is no image archive") {
		t.Errorf("error %v", err)
	}
	if _, err := ArchiveImages(path + "-none"); !os.IsNotExist(err) {
		t.Errorf("error %v", err)
	}
}

func TestListedDigests(t *testing.T) {
	const table = "REF TYPE DIGEST SIZE PLATFORMS LABELS\n" +
		"r/a@sha256:11 application/vnd.oci.image.manifest.v1+json sha256:11 49.9 MiB linux/amd64 x\n" +
		"r/b:1         application/vnd.oci.image.manifest.v1+json sha256:22 1 KiB linux/amd64 x\n\n"
	want := map[string]string{"r/a@sha256:11": "sha256:11", "r/b:1": "sha256:22"}
	if got := listedDigests(table); !maps.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestContainsAll(t *testing.T) {
	have := map[string]string{"a": "sha256:1", "b": "sha256:2"}
	tests := []struct {
		name string
		want map[string]string
		ok   bool
	}{
		{"all", map[string]string{"a": "sha256:1", "b": "sha256:2"}, true},
		{"some", map[string]string{"b": "sha256:2"}, true},
		{"one missing", map[string]string{"a": "sha256:1", "c": "sha256:3"}, false},
		{"changed", map[string]string{"a": "sha256:9"}, false},
		{"unknown digest", map[string]string{"a": ""}, false},
		{"no names", map[string]string{}, false},
	}
	for _, tt := range tests {
		if got := containsAll(have, tt.want); got != tt.ok {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestNodeShellCommand(t *testing.T) {
	s := NodeShell{PID: 42, Path: []string{"/cache/containerd"}}
	got := strings.Join(s.Command(context.Background(), "ctr", "images", "list").Args, " ")
	const want = "nsenter --target 42 --mount --uts --ipc --net --pid --wdns=/ -- /usr/bin/env " +
		"PATH=/cache/containerd:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root ctr images list"
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
