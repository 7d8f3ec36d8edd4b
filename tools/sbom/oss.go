// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"cmp"
	"fmt"
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// ossFile is what Deckhouse shows of what a module is made of.
const ossFile = "oss.yaml"

// baseFiles is the package whose version follows Debian's.
const baseFiles = "base-files"

// debianPackages are the packages that entries of oss.yaml stand for, by identifier.
var debianPackages = map[string]string{
	"debian":    baseFiles,
	"edk2":      "ovmf",
	"libnbd":    "libnbd0",
	"libvirt":   "libvirt-daemon",
	"nbdkit":    "nbdkit",
	"passt":     "passt",
	"qemu":      "qemu-system-x86",
	"seabios":   "seabios",
	"swtpm":     "swtpm",
	"virtiofsd": "virtiofsd",
}

// outdated says which entries of oss.yaml have another version than the packages and Go's library in the images. Those
// are as Debian and the build's Go have them on that day, so this is no mistake before a release.
func (t tool) outdated(shipped inventory) ([]string, error) {
	var entries []struct{ ID, Version string }
	if err := readYAML(filepath.Join(t.root, ossFile), &entries); err != nil {
		return nil, err
	}
	told := map[string]string{}
	for _, entry := range entries {
		told[entry.ID] = entry.Version
	}
	installed := map[string]string{}
	for p := range shipped.packages {
		installed[p.name] = p.version
	}
	var problems []string
	for _, id := range slices.Sorted(maps.Keys(debianPackages)) {
		name := debianPackages[id]
		version := installed[name]
		if version == "" {
			problems = append(problems, fmt.Sprintf("%s: %s: no image has the package %s", ossFile, id, name))
		} else if want := upstream(name, version); told[id] != want {
			problems = append(problems, fmt.Sprintf("%s: %s: the version is %s, not %q", ossFile, id, want, told[id]))
		}
	}
	for _, module := range shipped.sortedModules() {
		if module.path == standardLibrary && module.version != told["go"] {
			problems = append(problems, fmt.Sprintf("%s: go: the version is %s, not %q", ossFile, module.version, told["go"]))
		}
	}
	return problems, nil
}

var (
	// update is the number of Debian's point release in the version of base-files: 13.8+deb13u2 is of 13.2.
	update = regexp.MustCompile(`^(\d+)(?:\.\d+)+(?:\+deb\d+u(\d+))?`)
	digits = regexp.MustCompile(`\d+`)
)

// upstream turns the version of a package into one of three numbers: it drops Debian's epoch and revision.
func upstream(name, version string) string {
	if match := update.FindStringSubmatch(version); name == baseFiles && match != nil {
		return match[1] + "." + cmp.Or(match[2], "0") + ".0"
	}
	if _, rest, found := strings.Cut(version, ":"); found {
		version = rest
	}
	if revision := strings.LastIndex(version, "-"); revision >= 0 {
		version = version[:revision]
	}
	version, _, _ = strings.Cut(version, "+")
	numbers := append(digits.FindAllString(version, -1), "0", "0", "0")[:3]
	for i, number := range numbers {
		numbers[i] = cmp.Or(strings.TrimLeft(number, "0"), "0")
	}
	return strings.Join(numbers, ".")
}
