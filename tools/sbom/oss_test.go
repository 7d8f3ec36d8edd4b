// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
)

func TestUpstream(t *testing.T) {
	for _, tc := range []struct{ name, version, want string }{
		{"qemu-system-x86", "1:10.0.13+ds-0+deb13u1+b2", "10.0.13"},
		{"ovmf", "2025.02-8+deb13u1", "2025.2.0"},
		{"passt", "0.0~git20250503.587980c-2", "0.0.20250503"},
		{"swtpm", "0.7.1-1.5", "0.7.1"},
		{"virtiofsd", "1.13.2-1+b1", "1.13.2"},
		{"native", "7", "7.0.0"},
		{"base-files", "13.8", "13.0.0"},
		{"base-files", "13.8+deb13u2", "13.2.0"},
		{"base-files", "13.8.1+deb13u11", "13.11.0"},
	} {
		if got := upstream(tc.name, tc.version); got != tc.want {
			t.Errorf("%s %s is %s, not %s", tc.name, tc.version, got, tc.want)
		}
	}
}

// ossOf is oss.yaml in the versions of the packages that imagined returns, apart from what is replaced.
func ossOf(replaced ...string) string {
	return strings.NewReplacer(replaced...).Replace(`
- {id: debian, version: 13.2.0}
- {id: edk2, version: 2025.2.0}
- {id: go, version: 1.26.8}
- {id: libnbd, version: 1.22.2}
- {id: libvirt, version: 11.3.0}
- {id: nbdkit, version: 1.42.3}
- {id: passt, version: 0.0.20250503}
- {id: qemu, version: 10.0.13}
- {id: seabios, version: 1.16.3}
- {id: swtpm, version: 0.7.1}
- {id: virtiofsd, version: 1.13.2}
`)
}

func imagined(without string) inventory {
	shipped := inventory{
		packages: map[debianPackage]struct{}{},
		modules:  map[goModule]licence{{standardLibrary, "1.26.8"}: {}, {"example.org/a", "v1.0.0"}: {}},
	}
	for name, version := range map[string]string{
		"base-files": "13.8+deb13u2", "libnbd0": "1.22.2-1", "libvirt-daemon": "11.3.0-3+deb13u1", "nbdkit": "1.42.3-1", "ovmf": "2025.02-8",
		"passt": "0.0~git20250503.587980c-2", "qemu-system-x86": "1:10.0.13+ds-0+deb13u1", "seabios": "1.16.3-2", "swtpm": "0.7.1-1.5",
		"virtiofsd": "1.13.2-1", "libc6": "2.41-12",
	} {
		if name != without {
			shipped.packages[debianPackage{name: name, version: version}] = struct{}{}
		}
	}
	return shipped
}

func TestOutdated(t *testing.T) {
	for _, tc := range []struct {
		title, oss, without string
		want                []string
	}{
		{"as installed", ossOf(), "", nil},
		{"an update of Debian", ossOf("10.0.13", "10.0.12", "13.2.0", "13.1.0"), "", []string{
			`oss.yaml: debian: the version is 13.2.0, not "13.1.0"`, `oss.yaml: qemu: the version is 10.0.13, not "10.0.12"`,
		}},
		{"another Go", ossOf("1.26.8", "1.26.7"), "", []string{`oss.yaml: go: the version is 1.26.8, not "1.26.7"`}},
		{"not told", ossOf("id: passt", "id: pasta"), "", []string{`oss.yaml: passt: the version is 0.0.20250503, not ""`}},
		{"not installed", ossOf(), "swtpm", []string{"oss.yaml: swtpm: no image has the package swtpm"}},
	} {
		root := t.TempDir()
		lay(t, root, map[string]string{"oss.yaml": tc.oss})
		got, err := tool{root: root}.outdated(imagined(tc.without))
		if err != nil || !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, %v", tc.title, got, err)
		}
	}
	if _, err := (tool{root: t.TempDir()}).outdated(imagined("")); err == nil {
		t.Error("a repository without the file is accepted")
	}
}
