// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// The tool itself has tests of its own: here a stand-in notes what it is told.
func TestSBOMIsMadeOfWhatImagesAreMadeOf(t *testing.T) {
	b := newBuilder(t)
	for name, content := range map[string]string{
		"go.mod": "module example.org/sbom\n\ngo 1.25.0\n",
		"main.go": `package main

import (
	"os"
	"path/filepath"
	"strings"
)

func main() {
	folder := os.Args[len(os.Args)-1]
	os.MkdirAll(folder, 0o755)
	os.WriteFile(filepath.Join(folder, "told"), []byte(strings.Join(os.Args[1:], "\n")), 0o600)
}
`,
	} {
		path := filepath.Join(b.repoRoot, "tools", "sbom", name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	results, err := b.Build(t.Context(), "sbom")
	if err != nil || len(results) != 1 || results[0].Path != filepath.Join(b.stateDir, "sbom") {
		t.Fatalf("results are %+v, %v", results, err)
	}
	content, err := os.ReadFile(filepath.Join(results[0].Path, "told"))
	if err != nil {
		t.Fatal(err)
	}
	told := strings.Split(string(content), "\n")
	if told[0] != "-root" || told[1] != b.repoRoot || told[len(told)-1] != results[0].Path {
		t.Errorf("the tool was told %q", told)
	}
	for module, program := range map[string]string{".": "program", "third_party/x": "pinned-program"} {
		i := slices.IndexFunc(told, func(arg string) bool { return strings.HasPrefix(arg, module+"=") })
		if i < 0 || told[i-1] != "-programs" {
			t.Errorf("the tool was not told where the programs of %s are: %q", module, told)
			continue
		}
		_, folder, _ := strings.Cut(told[i], "=")
		if _, err := os.Stat(filepath.Join(folder, program)); err != nil {
			t.Error(err)
		}
	}
}
