// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// repository has an image with a program of ours and one with a base.
func repository(t *testing.T) (root, programs string) {
	t.Helper()
	root, programs = t.TempDir(), t.TempDir()
	lay(t, root, map[string]string{
		"release.yaml":           "version: v1.2.3\n",
		"oss.yaml":               "- {id: qemu, version: 10.0.13}\n",
		"images/base/image.yaml": "description: Base\nbaseOnly: true\ndebian: {suite: trixie, packages: [qemu-utils]}\n",
		"images/tool/image.yaml": "description: Tool\nbase: base\nbuild: [{module: ., package: ./cmd/tool, path: /usr/bin/tool}]\nfiles: [{source: own.sh, path: /own.sh}]\n",
		"images/bare/image.yaml": "description: Bare\nbuild: [{module: ., package: ./cmd/tool, path: /tool}]\n",
	})
	// Any program that Go has made will do; the test itself is at hand.
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(self, filepath.Join(programs, "tool")); err != nil {
		t.Fatal(err)
	}
	return root, programs
}

// shape is what the tests look at in a file of CycloneDX.
type shape struct {
	BOMFormat, SpecVersion string
	Metadata               struct {
		Component struct{ Name, Version, Description string }
	}
	Components []struct {
		Ref                       string `json:"bom-ref"`
		Type, Name, Version, Purl string
		Licenses                  []struct {
			Expression string
			License    struct{ Name string }
		}
	}
	Dependencies []struct {
		Ref       string
		DependsOn []string
	}
}

func readShape(t *testing.T, file string) shape {
	t.Helper()
	content, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	var out shape
	if err := json.Unmarshal(content, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

func TestRun(t *testing.T) {
	root, programs := repository(t)
	out := t.TempDir()
	run := func() error {
		return tool{root: root, programs: paths{".": programs}, debian: paths{"base": debianRoot(t)}}.run(t.Context(), []string{out})
	}
	if err := run(); err != nil {
		t.Fatal(err)
	}
	written, err := filepath.Glob(filepath.Join(out, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range written {
		written[i] = filepath.Base(written[i])
	}
	if want := []string{"THIRD_PARTY_NOTICES.txt", "bare.cdx.json", "tool.cdx.json"}; !slices.Equal(written, want) {
		t.Errorf("written is %q", written)
	}
	bom := readShape(t, filepath.Join(out, "tool.cdx.json"))
	if bom.BOMFormat != "CycloneDX" || bom.Metadata.Component.Name != "virtualization/tool" || bom.Metadata.Component.Version != "v1.2.3" {
		t.Errorf("%+v", bom.Metadata)
	}
	checkComponents(t, bom)
	before := readFile(t, filepath.Join(out, "tool.cdx.json"))
	if err := run(); err != nil || readFile(t, filepath.Join(out, "tool.cdx.json")) != before {
		t.Errorf("the second run differs from the first: %v", err)
	}
	notices := readFile(t, filepath.Join(out, "THIRD_PARTY_NOTICES.txt"))
	for _, words := range []string{"Go module sigs.k8s.io/yaml@", "Go module stdlib@", "Debian package qemu-block-extra 1:10.0.13+ds-0+deb13u1+b2\nDebian package qemu-utils"} {
		if !strings.Contains(notices, words) {
			t.Errorf("the notices do not have %q", words)
		}
	}
}

// A program that is in no image brings the licences of what it is linked to along, and
// nothing else is written.
func TestNoticesOfAProgram(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	out := t.TempDir()
	if err := (tool{program: self}).run(t.Context(), []string{out}); err != nil {
		t.Fatal(err)
	}
	written, err := os.ReadDir(out)
	if err != nil || len(written) != 1 || written[0].Name() != "THIRD_PARTY_NOTICES.txt" {
		t.Fatalf("written is %v, %v", written, err)
	}
	notices := readFile(t, filepath.Join(out, "THIRD_PARTY_NOTICES.txt"))
	for _, words := range []string{"Go module sigs.k8s.io/yaml@", "Go module stdlib@", "Permission is hereby granted"} {
		if !strings.Contains(notices, words) {
			t.Errorf("the notices do not have %q", words)
		}
	}
	if strings.Contains(notices, "Debian package") {
		t.Error("a program has no Debian packages")
	}
	if err := (tool{program: filepath.Join(out, "THIRD_PARTY_NOTICES.txt")}).run(t.Context(), []string{out}); err == nil {
		t.Error("a text passes for a program")
	}
}

func checkComponents(t *testing.T, bom shape) {
	t.Helper()
	licences := map[string]string{}
	for _, c := range bom.Components {
		licences[c.Type+" "+c.Name+" "+c.Purl] = ""
		for _, l := range c.Licenses {
			licences[c.Type+" "+c.Name+" "+c.Purl] += l.Expression + l.License.Name + ";"
		}
	}
	for name, want := range map[string]string{
		"application tool ": "",
		"library qemu-utils pkg:deb/debian/qemu-utils@1%3A10.0.13%2Bds-0%2Bdeb13u1%2Bb2?distro=debian-13": "BSD-3-clause;GPL-2;",
		"library github.com/google/licensecheck pkg:golang/github.com/google/licensecheck@v0.3.1":         "BSD-3-Clause;",
	} {
		if got, found := licences[name]; got != want || !found {
			t.Errorf("%s: %q, %v", name, got, found)
		}
	}
	refs := map[string]bool{"image:tool": true}
	for _, c := range bom.Components {
		if refs[c.Ref] {
			t.Errorf("%s is there twice", c.Ref)
		}
		refs[c.Ref] = true
	}
	for _, d := range bom.Dependencies {
		for _, on := range append(d.DependsOn, d.Ref) {
			if !refs[on] {
				t.Errorf("%s depends on %s, which is not there", d.Ref, on)
			}
		}
	}
}

func readFile(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestRunRefuses(t *testing.T) {
	root, programs := repository(t)
	for name, test := range map[string]struct {
		tool tool
		want string
	}{
		"no programs": {tool{root: root, debian: paths{"base": debianRoot(t)}}, "image bare: say where the programs of . are: -programs .=FOLDER"},
		"no root":     {tool{root: root, programs: paths{".": programs}}, "image base: say where its Debian root is: -debian base=ROOT"},
		"no images":   {tool{root: programs}, "has no images"},
		"old versions": {
			tool{root: root, programs: paths{".": programs}, debian: paths{"base": debianRoot(t)}, release: true},
			`oss.yaml: debian: the version is 13.0.0, not ""`,
		},
	} {
		if err := test.tool.run(t.Context(), []string{t.TempDir()}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (tool{}).run(t.Context(), nil); err == nil {
		t.Error("it runs without a folder")
	}
}

// What is linked into our own programs has to have a licence that allows to ship it.
// For the programs of pinned releases that is checked when images are built.
func TestLicencesOfOurPrograms(t *testing.T) {
	found := newModules(t.Context())
	shipped := inventory{modules: map[goModule]licence{}}
	for folder, packages := range map[string]string{"../..": "./cmd/...", "../../hooks": "./cmd/..."} {
		command := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{.Path}} {{.Version}}{{end}}", packages)
		command.Dir = folder
		out, err := command.Output()
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(string(out), "\n") {
			path, version, _ := strings.Cut(line, " ")
			if path == "" || path == ours || strings.HasPrefix(path, ours+"/") {
				continue
			}
			module := goModule{path, version}
			if shipped.modules[module], err = found.licence(module); err != nil {
				t.Error(err)
			}
		}
	}
	if err := checkLicences(shipped); err != nil {
		t.Error(err)
	}
	if len(shipped.modules) < 100 {
		t.Errorf("only %d modules were found", len(shipped.modules))
	}
}

// oss.yaml is what people read of what the module ships: it has to be in the versions
// that are shipped.
func TestOSSNamesPinnedVersions(t *testing.T) {
	var entries []struct{ ID, Name, Description, Link, License, Version string }
	if err := yaml.Unmarshal([]byte(readFile(t, "../../oss.yaml")), &entries); err != nil {
		t.Fatal(err)
	}
	versions := map[string]string{}
	for _, e := range entries {
		if e.ID == "" || e.Name == "" || e.Description == "" || e.License == "" || e.Version == "" || !strings.HasPrefix(e.Link, "https://") {
			t.Errorf("%+v is not complete", e)
		}
		versions[e.ID] = e.Version
	}
	for id, required := range map[string]struct{ file, module string }{
		"kubevirt":              {"third_party/kubevirt/go.mod", "kubevirt.io/kubevirt"},
		"cdi":                   {"third_party/cdi/go.mod", "kubevirt.io/containerized-data-importer"},
		"distribution":          {"go.mod", "github.com/distribution/distribution/v3"},
		"kubernetes":            {"go.mod", "k8s.io/client-go"},
		"controller-runtime":    {"go.mod", "sigs.k8s.io/controller-runtime"},
		"go-containerregistry":  {"go.mod", "github.com/google/go-containerregistry"},
		"netlink":               {"go.mod", "github.com/vishvananda/netlink"},
		"module-sdk":            {"hooks/go.mod", "github.com/deckhouse/module-sdk"},
		"prometheus-client":     {"go.mod", "github.com/prometheus/client_golang"},
		"klauspost-compression": {"go.mod", "github.com/klauspost/compress"},
		"xz":                    {"go.mod", "github.com/therootcompany/xz"},
	} {
		if want := required.module + " v" + versions[id]; versions[id] == "" || !strings.Contains(readFile(t, filepath.Join("../..", required.file)), want) {
			t.Errorf("oss.yaml: %s: %s does not have %q", id, required.file, want)
		}
	}
}
