// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// writeModule puts a pinned module into a repository and returns the repository.
func writeModule(t *testing.T, goMod, recipe string) string {
	t.Helper()
	root := t.TempDir()
	dir := filepath.Join(root, "third_party", "x")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"go.mod": goMod, recipeFile: recipe} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

const someGoMod = `
module example.org/third_party/x

go 1.25.0

tool (
	example.org/a/cmd/alpha
	example.org/a/server/v3
)

require example.org/a v1.2.3

require (
	example.org/a/nested v0.1.0 // indirect
	example.org/replaced v0.9.0 // indirect
)

replace (
	example.org/replaced => example.org/fork v0.9.1
	libguestfs.org/libnbd => ../libnbd
)
`

func TestRecipeDescribesTheBuild(t *testing.T) {
	root := writeModule(t, someGoMod, `
cgo: true
tags: [selinux]
ldflags: [-s, "-X example.org/a.version=${VERSION}"]
versionOf: example.org/a
programs: {beta: example.org/a/server/v3, own: .}
`)
	p, err := loadPinned(root, "third_party/x")
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{"alpha": "example.org/a/cmd/alpha", "beta": "example.org/a/server/v3", "own": "."}
	if got := p.programs(); !maps.Equal(got, want) {
		t.Errorf("programs are %v, want %v", got, want)
	}
	if got := p.packages(); !slices.Equal(got, []string{".", "example.org/a/cmd/alpha", "example.org/a/server/v3"}) {
		t.Errorf("packages are %v", got)
	}
	if got := p.ldflags(); got != "-s -X example.org/a.version=v1.2.3" {
		t.Errorf("ldflags are %q", got)
	}
	if !p.needsBinding() || p.name() != "x" {
		t.Errorf("needsBinding %v, name %q", p.needsBinding(), p.name())
	}
	if env := p.environment(); !slices.Contains(env, "CGO_ENABLED=1") {
		t.Errorf("the environment is %v", env)
	}
}

func TestLocateFindsTheModuleOfAFile(t *testing.T) {
	p, err := loadPinned(writeModule(t, someGoMod, "{}"), "third_party/x")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct{ module, inside string }{
		"example.org/a/cmd/x.conf":     {"example.org/a@v1.2.3", "cmd/x.conf"},
		"example.org/a/nested/deep/x":  {"example.org/a/nested@v0.1.0", "deep/x"},
		"example.org/replaced/x":       {"example.org/replaced@v0.9.1", "x"},
		"example.org/unknown/cmd/main": {},
	}
	for source, want := range tests {
		module, inside, err := p.locate(source)
		if want.module == "" {
			if err == nil || !strings.Contains(err.Error(), `third_party/x/go.mod requires no module that holds "example.org/unknown/cmd/main"`) {
				t.Errorf("%s: got error %v", source, err)
			}
			continue
		}
		if err != nil || module.String() != want.module || inside != want.inside {
			t.Errorf("%s is %s of %s, %v", source, inside, module, err)
		}
	}
}

// A path of the machine is in no module, however far up one looks.
func TestLocateRefusesPathsOfTheMachine(t *testing.T) {
	p, err := loadPinned(writeModule(t, someGoMod, "{}"), "third_party/x")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range []string{"/etc/libvirt/qemu.conf", "/", "", "qemu.conf", "../../etc/passwd"} {
		if module, inside, err := p.locate(source); err == nil {
			t.Errorf("%q is %q of %s", source, inside, module)
		}
	}
}

func TestVersionFollowsReplacements(t *testing.T) {
	p, err := loadPinned(writeModule(t, someGoMod, "{}"), "third_party/x")
	if err != nil {
		t.Fatal(err)
	}
	for module, want := range map[string]string{
		"example.org/a": "v1.2.3", "example.org/a/nested": "v0.1.0",
		// What is compiled is the replacement.
		"example.org/replaced": "v0.9.1",
	} {
		if got, err := p.version(module); err != nil || got != want {
			t.Errorf("%s: %s, %v; want %s", module, got, err, want)
		}
	}
	// Replaced by a folder, it has no version that could be told.
	if got, err := p.version("libguestfs.org/libnbd"); err == nil {
		t.Errorf("a folder has the version %s", got)
	}
}

func TestLoadPinnedRefuses(t *testing.T) {
	tests := map[string]struct{ goMod, recipe, want string }{
		"unknown field":   {someGoMod, "cgoo: true", `unknown field "cgoo"`},
		"unknown version": {someGoMod, "ldflags: ['${VERSION}']\nversionOf: example.org/b", `versionOf: third_party/x/go.mod does not require "example.org/b"`},
		"no version":      {someGoMod, "ldflags: ['${VERSION}']", "versionOf"},
		"no program":      {"module x\n", "{}", "names no tool"},
		"broken go.mod":   {"modul x\n", "{}", "unknown directive"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := loadPinned(writeModule(t, test.goMod, test.recipe), "third_party/x")
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got error %v, want one with %q", err, test.want)
			}
		})
	}
	if p, err := loadPinned(t.TempDir(), "."); p != nil || err != nil {
		t.Errorf("a module of our own: %v, %v", p, err)
	}
}

// TestRepositoryRecipes checks the modules that are there.
func TestRepositoryRecipes(t *testing.T) {
	root := filepath.Join("..", "..", "..")
	recipes, err := filepath.Glob(filepath.Join(root, "third_party", "*", recipeFile))
	if err != nil || len(recipes) < 6 {
		t.Fatalf("found the recipes %v, %v", recipes, err)
	}
	for _, recipe := range recipes {
		dir, err := filepath.Rel(root, filepath.Dir(recipe))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := loadPinned(root, dir); err != nil {
			t.Error(err)
		}
	}
	kubernetes, err := loadPinned(root, "third_party/kubernetes")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-proxy", "kube-scheduler", "kubectl", "kubelet"}
	if got := slices.Sorted(maps.Keys(kubernetes.programs())); !slices.Equal(got, want) {
		t.Errorf("Kubernetes has the programs %v, want %v", got, want)
	}
	if flags := kubernetes.ldflags(); strings.Contains(flags, "${") || !strings.Contains(flags, "version.gitVersion=v1.34.") {
		t.Errorf("the linker's flags are %s", flags)
	}
}

func TestCommandName(t *testing.T) {
	for pkg, want := range map[string]string{"example.org/cmd/a": "a", "example.org/server/v3": "server", "./cmd/b": "b"} {
		if got := commandName(pkg); got != want {
			t.Errorf("commandName(%q) = %q, want %q", pkg, got, want)
		}
	}
}
