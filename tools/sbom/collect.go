// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"debug/buildinfo"
	"fmt"
	"maps"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
)

// inventory is what an image is made of.
type inventory struct {
	programs []program
	modules  map[goModule]licence
	packages map[debianPackage]struct{}
}

// program is a file of an image that was compiled, and the modules that are linked
// into it.
type program struct {
	path    string
	modules []goModule
}

// goModule is a Go module in one version; the toolchain's library is one, too.
type goModule struct{ path, version string }

func (m goModule) String() string { return m.path + "@" + m.version }

// standardLibrary is what the Go project's tools call the library of the toolchain.
const standardLibrary = "stdlib"

// ours is where our own modules are: their licence is the one of the repository, and
// they have no version of their own.
const ours = "github.com/deckhouse/virtualization"

func (i *inventory) merge(other inventory) {
	i.programs = append(i.programs, other.programs...)
	if i.modules == nil {
		i.modules, i.packages = map[goModule]licence{}, map[debianPackage]struct{}{}
	}
	maps.Copy(i.modules, other.modules)
	maps.Copy(i.packages, other.packages)
}

// sortedModules are the modules by path and version.
func (i *inventory) sortedModules() []goModule {
	return slices.SortedFunc(maps.Keys(i.modules), func(a, b goModule) int {
		return cmp.Or(strings.Compare(a.path, b.path), strings.Compare(a.version, b.version))
	})
}

// sortedPackages are the Debian packages by name.
func (i *inventory) sortedPackages() []debianPackage {
	return slices.SortedFunc(maps.Keys(i.packages), func(a, b debianPackage) int { return strings.Compare(a.name, b.name) })
}

// collector finds out what images are made of.
type collector struct {
	tool
	definitions definitions
	modules     *modules
	// roots are the packages of Debian roots that were read, by path.
	roots map[string][]debianPackage
}

// contents is everything in an image, with what comes from its base.
func (c *collector) contents(name string) (inventory, error) {
	d, found := c.definitions[name]
	if !found {
		return inventory{}, fmt.Errorf("there is no image %s", name)
	}
	out := inventory{}
	out.merge(inventory{})
	if d.Base != "" {
		base, err := c.contents(d.Base)
		if err != nil {
			return out, err
		}
		out.merge(base)
	}
	if d.Debian != nil {
		packages, err := c.packages(name)
		if err != nil {
			return out, err
		}
		for _, p := range packages {
			out.packages[p] = struct{}{}
		}
	}
	for _, one := range slices.Concat(d.Build, d.Files) {
		if err := c.add(&out, one); err != nil {
			return out, err
		}
	}
	return out, nil
}

func (c *collector) packages(image string) ([]debianPackage, error) {
	root := c.debian[image]
	if root == "" {
		return nil, fmt.Errorf("say where its Debian root is: -debian %s=ROOT", image)
	}
	if packages, found := c.roots[root]; found {
		return packages, nil
	}
	packages, err := readDebian(root)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", root, err)
	}
	c.roots[root] = packages
	return packages, nil
}

// add takes in a program or a file.
func (c *collector) add(out *inventory, one content) error {
	var linked []goModule
	switch source := cmp.Or(one.CSource, one.Source); {
	case one.Module == "":
		return nil // A file of ours that lies beside the definition.
	case one.Package != "":
		folder := c.programs[one.Module]
		if folder == "" {
			return fmt.Errorf("say where the programs of %s are: -programs %s=FOLDER", one.Module, one.Module)
		}
		name, err := programFile(c.root, one.Module, one.Package)
		if err != nil {
			return err
		}
		info, err := buildinfo.ReadFile(filepath.Join(folder, name))
		if err != nil {
			return err
		}
		linked = linkedModules(info)
	default:
		module, err := moduleOf(c.root, one.Module, source)
		if err != nil {
			return err
		}
		linked = []goModule{module}
	}
	if err := c.addModules(out, linked); err != nil {
		return err
	}
	if one.Source == "" {
		out.programs = append(out.programs, program{path: one.Path, modules: linked})
	}
	return nil
}

// addModules takes in modules with their licences.
func (c *collector) addModules(out *inventory, linked []goModule) error {
	for _, module := range linked {
		found, err := c.modules.licence(module)
		if err != nil {
			return err
		}
		out.modules[module] = found
	}
	return nil
}

// linkedModules are the modules that the linker has noted in a program. Ours, which
// have no version, are left out.
func linkedModules(info *debug.BuildInfo) []goModule {
	found := []goModule{{path: standardLibrary, version: strings.TrimPrefix(info.GoVersion, "go")}}
	for _, dependency := range info.Deps {
		module := goModule{path: dependency.Path, version: dependency.Version}
		// A folder beside the module keeps the name that it replaces.
		if replaced := dependency.Replace; replaced != nil && !strings.HasPrefix(replaced.Path, ".") {
			module = goModule{path: replaced.Path, version: replaced.Version}
		}
		if module.path != ours && !strings.HasPrefix(module.path, ours+"/") {
			found = append(found, module)
		}
	}
	return found
}
