// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/google/licensecheck"
	"golang.org/x/mod/module"
)

// licence is what a module may be used under.
type licence struct {
	// ids are SPDX identifiers, sorted and joined by commas. All of them apply, to
	// different files of the module.
	ids string
	// text is that of all licence files, with their names.
	text string
}

// allowed are the licences under which a module may be linked into a program that we
// ship as Apache-2.0.
var allowed = []string{
	"0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-2-Clause-FreeBSD", "BSD-2-Clause-Views", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0",
	"MPL-2.0", "PostgreSQL", "Unlicense", "Zlib",
}

// known are modules whose licence files cannot be read by a program, or that may be
// shipped although their licence is not among those above. Each says why.
var known = map[string]licence{
	// Its programs are dynamically linked to the library, which is under the same licence; the binding comes with
	// Debian's source of it.
	"libguestfs.org/libnbd": {ids: "LGPL-2.1-or-later", text: "The text of the licence is that of Debian's package libnbd0.\n"},
}

// covered is how much of a file has to be the text of licences. What is left are
// names, years and headings.
const covered = 75

var licenceFile = regexp.MustCompile(`(?i)^(un)?licen[cs]e([-._].*)?$|^copying([-._].*)?$|^notice(\.(txt|md))?$`)

// modules finds the licences of modules in the cache of the go command, which fetches
// those that are missing.
type modules struct {
	ctx   context.Context
	cache string
	found map[goModule]licence
}

func newModules(ctx context.Context) *modules {
	return &modules{ctx: ctx, found: map[goModule]licence{}}
}

// licence reads the licences of a module.
func (m *modules) licence(one goModule) (licence, error) {
	if found, ok := m.found[one]; ok {
		return found, nil
	}
	found, ok := known[one.path]
	if !ok {
		folder, err := m.folder(one)
		if err != nil {
			return licence{}, err
		}
		if found, err = readLicences(folder); err != nil {
			return licence{}, fmt.Errorf("%s: %w", one, err)
		}
	}
	m.found[one] = found
	return found, nil
}

// folder is where the source of a module is.
func (m *modules) folder(one goModule) (string, error) {
	if one.path == standardLibrary {
		return m.ask("env", "GOROOT")
	}
	var err error
	if m.cache == "" {
		if m.cache, err = m.ask("env", "GOMODCACHE"); err != nil {
			return "", err
		}
	}
	escapedPath, err := module.EscapePath(one.path)
	if err != nil {
		return "", err
	}
	escapedVersion, err := module.EscapeVersion(one.version)
	if err != nil {
		return "", err
	}
	folder := filepath.Join(m.cache, filepath.FromSlash(escapedPath)+"@"+escapedVersion)
	if _, err := os.Stat(folder); err == nil {
		return folder, nil
	}
	answer, err := m.ask("mod", "download", "-json", one.String())
	if err != nil {
		return "", err
	}
	var downloaded struct{ Dir string }
	return downloaded.Dir, errors.Join(json.Unmarshal([]byte(answer), &downloaded), err)
}

func (m *modules) ask(args ...string) (string, error) {
	command := exec.CommandContext(m.ctx, "go", args...) //nolint:gosec // of ours
	var problem bytes.Buffer
	command.Stderr = &problem
	out, err := command.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w: %s", strings.Join(args, " "), err, problem.String())
	}
	return strings.TrimSpace(string(out)), nil
}

// readLicences reads the licence files at the root of a module.
func readLicences(folder string) (licence, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return licence{}, err
	}
	var ids []string
	var text strings.Builder
	for _, entry := range entries {
		// Documents are not linked into programs.
		if entry.IsDir() || !licenceFile.MatchString(entry.Name()) || strings.HasSuffix(entry.Name(), ".docs") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(folder, entry.Name()))
		if err != nil {
			return licence{}, err
		}
		fmt.Fprintf(&text, "%s:\n\n%s\n", entry.Name(), strings.TrimSpace(string(content)))
		if coverage := licensecheck.Scan(content); coverage.Percent >= covered {
			for _, match := range coverage.Match {
				ids = append(ids, match.ID)
			}
		}
	}
	if len(ids) == 0 {
		return licence{}, errors.New("has no file at its root that is the text of a licence: look it up, and add it to the known ones")
	}
	slices.Sort(ids)
	return licence{ids: strings.Join(slices.Compact(ids), ", "), text: text.String()}, nil
}

// checkLicences names all modules that may not be shipped.
func checkLicences(shipped inventory) error {
	var problems []error
	for _, one := range shipped.sortedModules() {
		if _, judged := known[one.path]; judged {
			continue
		}
		for _, id := range strings.Split(shipped.modules[one].ids, ", ") {
			if !slices.Contains(allowed, id) {
				problems = append(problems, fmt.Errorf("%s: the licence %s is not among those that allow to ship it", one, id))
			}
		}
	}
	return errors.Join(problems...)
}
