// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"archive/tar"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/sandbox/internal/image"
)

// writeTar makes an archive as mmdebstrap does: names begin with "./".
func writeTar(t *testing.T, file string, members map[string]string) {
	t.Helper()
	target, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	archive := tar.NewWriter(target)
	for name, content := range members {
		header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o644}
		if strings.HasSuffix(name, "/") {
			header.Typeflag = tar.TypeDir
		}
		if err := archive.WriteHeader(header); err != nil {
			t.Fatal(err)
		}
		if _, err := archive.Write([]byte(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := archive.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestExtractProgram(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "root.tar")
	writeTar(t, file, map[string]string{
		"./usr/bin/": "", "./usr/bin/prometheus": "other", "./usr/bin/promtool": "program", "./usr/share/promtool": "text",
	})
	target := filepath.Join(dir, "promtool")
	if err := extractProgram(file, "usr/bin/promtool", target); err != nil {
		t.Fatal(err)
	}
	content, err := os.ReadFile(target)
	if err != nil || string(content) != "program" {
		t.Errorf("got %q, %v", content, err)
	}
	if info, err := os.Stat(target); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("mode %v, %v, want it executable", info.Mode(), err)
	}

	for member, want := range map[string]string{"usr/bin/alertmanager": "root.tar has no usr/bin/alertmanager", "usr/bin": "root.tar has no usr/bin"} {
		err := extractProgram(file, member, filepath.Join(dir, "none"))
		if err == nil || !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%s: got error %v, want %q", member, err, want)
		}
	}
	if err := extractProgram(target, "usr/bin/promtool", filepath.Join(dir, "none")); err == nil {
		t.Error("took a program for an archive")
	}
	if err := extractProgram(file, "usr/bin/promtool", target); err == nil {
		t.Error("wrote over a program that may be running")
	}
}

// What is built for tests of rules is fetched together with what the sandbox runs.
func TestPromtoolIsOfTheImagesPackage(t *testing.T) {
	definition, err := image.Load(filepath.Join("..", "..", "images", "prometheus", image.FileName))
	if err != nil {
		t.Fatal(err)
	}
	if debian := definition.Debian; debian.Suite != buildSuite || !slices.Equal(debian.Packages, prometheusPackages) {
		t.Errorf("the image has %v of %s, promtool comes from %v of %s", debian.Packages, debian.Suite, prometheusPackages, buildSuite)
	}
}

func TestPrometheusTarget(t *testing.T) {
	noted := useFakes(t)
	b := newBuilder(t)
	// The root that the fake makes holds no program.
	if _, err := b.Build(t.Context(), "prometheus"); err == nil || !strings.Contains(err.Error(), "building prometheus: ") {
		t.Errorf("got error %v", err)
	}
	if calls := noted("mmdebstrap"); len(calls) != 1 || !strings.Contains(calls[0], "--include=base-files,prometheus trixie ") {
		t.Errorf("mmdebstrap was called with %q", calls)
	}
}
