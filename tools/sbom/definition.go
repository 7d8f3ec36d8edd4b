// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"

	"golang.org/x/mod/modfile"
	"sigs.k8s.io/yaml"
)

// definition is what images/NAME/image.yaml says of where an image's content comes
// from. The builder of the sandbox checks the whole file.
type definition struct {
	Description string    `json:"description"`
	Base        string    `json:"base"`
	BaseOnly    bool      `json:"baseOnly"`
	Debian      *struct{} `json:"debian"`
	Build       []content `json:"build"`
	Files       []content `json:"files"`
}

// content is a program or a file of a Go module.
type content struct {
	Module  string `json:"module"`
	Package string `json:"package"`
	CSource string `json:"cSource"`
	Source  string `json:"source"`
	Path    string `json:"path"`
}

type definitions map[string]definition

func (d definitions) names() []string { return slices.Sorted(maps.Keys(d)) }

func loadDefinitions(folder string) (definitions, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*", "image.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("%s has no images", folder)
	}
	found := definitions{}
	for _, file := range files {
		var d definition
		if err := readYAML(file, &d); err != nil {
			return nil, err
		}
		found[filepath.Base(filepath.Dir(file))] = d
	}
	return found, nil
}

// moduleVersion is the version of the module that is released.
func moduleVersion(root string) (string, error) {
	var release struct {
		Version string `json:"version"`
	}
	err := readYAML(filepath.Join(root, "release.yaml"), &release)
	return release.Version, err
}

func readYAML(file string, into any) error {
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return err
	}
	if err := yaml.Unmarshal(text, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

var majorVersion = regexp.MustCompile("^v[0-9]+$")

// programFile is the name that a command of a module is built as: that of its package,
// unless the recipe of a pinned release gives it another.
func programFile(root, module, pkg string) (string, error) {
	var recipe struct {
		Programs map[string]string `json:"programs"`
	}
	if module != "." {
		if err := readYAML(filepath.Join(root, module, "build.yaml"), &recipe); err != nil {
			return "", err
		}
	}
	for name, built := range recipe.Programs {
		if built == pkg {
			return name, nil
		}
	}
	name := path.Base(pkg)
	if majorVersion.MatchString(name) {
		name = path.Base(path.Dir(pkg))
	}
	return name, nil
}

// moduleOf is the required module that a source file of a pinned release belongs to.
func moduleOf(root, module, source string) (goModule, error) {
	file := filepath.Join(root, module, "go.mod")
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		return goModule{}, err
	}
	parsed, err := modfile.Parse(file, text, nil)
	if err != nil {
		return goModule{}, err
	}
	for folder := path.Dir(source); folder != "."; folder = path.Dir(folder) {
		for _, require := range parsed.Require {
			if require.Mod.Path == folder {
				return goModule{path: folder, version: require.Mod.Version}, nil
			}
		}
	}
	return goModule{}, fmt.Errorf("%s requires no module that holds %s", file, source)
}
