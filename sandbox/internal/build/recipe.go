// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
	"sigs.k8s.io/yaml"
)

// recipeFile lies beside the go.mod of a module that pins a release, and says how
// its commands are compiled. werf reads it too.
const recipeFile = "build.yaml"

// recipe is what a build.yaml says.
type recipe struct {
	// Cgo says that some of the commands call C libraries, so that all of them are
	// compiled with cgo, in a Debian root that has these libraries. Compiling only
	// some with cgo would compile what they share twice.
	Cgo bool `json:"cgo,omitempty"`
	// Tags are build tags.
	Tags []string `json:"tags,omitempty"`
	// Ldflags go to the linker. ${VERSION} stands for the version of VersionOf.
	Ldflags []string `json:"ldflags,omitempty"`
	// VersionOf is the required module whose version ${VERSION} stands for.
	VersionOf string `json:"versionOf,omitempty"`
	// Programs names commands whose import path does not end in their name, and
	// those that are not tools of the module.
	Programs map[string]string `json:"programs,omitempty"`
}

// pinned is a Go module that pins a release of another project.
type pinned struct {
	recipe recipe
	// dir is relative to the repository, such as third_party/kubevirt.
	dir  string
	path string
	file *modfile.File
}

// loadPinned reads the module in a folder of the repository; it returns nil for a
// module of our own, which has no recipe.
func loadPinned(repoRoot, dir string) (*pinned, error) {
	p := &pinned{dir: dir, path: filepath.Join(repoRoot, dir)}
	content, err := os.ReadFile(filepath.Join(p.path, recipeFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := yaml.UnmarshalStrict(content, &p.recipe); err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(dir, recipeFile), err)
	}
	goMod := filepath.Join(p.path, "go.mod")
	if content, err = os.ReadFile(goMod); err != nil {
		return nil, err
	}
	if p.file, err = modfile.Parse(goMod, content, nil); err != nil {
		return nil, err
	}
	return p, p.validate()
}

func (p *pinned) validate() error {
	if slices.ContainsFunc(p.recipe.Ldflags, func(flag string) bool { return strings.Contains(flag, "${VERSION}") }) {
		if _, err := p.version(p.recipe.VersionOf); err != nil {
			return fmt.Errorf("%s: versionOf: %w", filepath.Join(p.dir, recipeFile), err)
		}
	}
	if len(p.programs()) == 0 {
		return fmt.Errorf("%s/go.mod names no tool: say which commands to build", p.dir)
	}
	return nil
}

// name is the last element of the folder, such as kubevirt.
func (p *pinned) name() string { return filepath.Base(p.dir) }

// programs maps the names of all commands to their import paths.
func (p *pinned) programs() map[string]string {
	programs := map[string]string{}
	named := map[string]bool{}
	for name, pkg := range p.recipe.Programs {
		programs[name], named[pkg] = pkg, true
	}
	for _, tool := range p.file.Tool {
		if !named[tool.Path] {
			programs[commandName(tool.Path)] = tool.Path
		}
	}
	return programs
}

// packages lists the import paths of all commands in order.
func (p *pinned) packages() []string {
	return slices.Sorted(maps.Values(p.programs()))
}

// ldflags is the one argument that the linker's flags make.
func (p *pinned) ldflags() string {
	version, _ := p.version(p.recipe.VersionOf)
	return strings.ReplaceAll(strings.Join(p.recipe.Ldflags, " "), "${VERSION}", version)
}

// version returns the version of a required module.
func (p *pinned) version(modulePath string) (string, error) {
	for _, replace := range p.file.Replace {
		if replace.Old.Path == modulePath && replace.New.Version != "" {
			return replace.New.Version, nil
		}
	}
	for _, require := range p.file.Require {
		if require.Mod.Path == modulePath {
			return require.Mod.Version, nil
		}
	}
	return "", fmt.Errorf("%s/go.mod does not require %q", p.dir, modulePath)
}

// locate splits the path of a file or package into the required module that holds
// it and the rest.
func (p *pinned) locate(source string) (module.Version, string, error) {
	for dir := path.Dir(source); dir != "." && dir != "/"; dir = path.Dir(dir) {
		if version, err := p.version(dir); err == nil {
			return module.Version{Path: dir, Version: version}, strings.TrimPrefix(source, dir+"/"), nil
		}
	}
	return module.Version{}, "", fmt.Errorf("%s/go.mod requires no module that holds %q", p.dir, source)
}

// needsBinding tells whether the module counts on the builder for the Go binding
// of libnbd, which no module proxy serves.
func (p *pinned) needsBinding() bool {
	return slices.ContainsFunc(p.file.Replace, func(r *modfile.Replace) bool { return r.New.Path == "../"+bindingDir })
}

var majorVersion = regexp.MustCompile(`^v[0-9]+$`)

// commandName is the name that go build gives a command.
func commandName(pkg string) string {
	name := path.Base(pkg)
	if majorVersion.MatchString(name) {
		name = path.Base(path.Dir(pkg))
	}
	return name
}
