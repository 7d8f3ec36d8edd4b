// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
)

const mit = `MIT License

Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy of this software and associated documentation files (the "Software"), to deal in the Software without restriction, including without limitation the rights to use, copy, modify, merge, publish, distribute, sublicense, and/or sell copies of the Software, and to permit persons to whom the Software is furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY, FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM, OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE SOFTWARE.
`

// lay writes files below a folder; a name that ends in .gz is packed, a content that
// begins with "->" is a link.
func lay(t *testing.T, folder string, files map[string]string) {
	t.Helper()
	for name, content := range files {
		file := filepath.Join(folder, name)
		if err := os.MkdirAll(filepath.Dir(file), 0o750); err != nil {
			t.Fatal(err)
		}
		if target, found := strings.CutPrefix(content, "->"); found {
			if err := os.Symlink(target, file); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if strings.HasSuffix(name, ".gz") {
			content = packed(t, content)
		}
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func packed(t *testing.T, content string) string {
	t.Helper()
	var out bytes.Buffer
	writer := gzip.NewWriter(&out)
	if _, err := writer.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// debianRoot has a package, one that shares its documents, and one of Debian's own.
func debianRoot(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	const form = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\nFiles: *\nLicense: "
	lay(t, root, map[string]string{
		"usr/share/doc/qemu-utils/changelog.Debian.gz":       "qemu (1:10.0.13+ds-0+deb13u1) trixie; urgency=medium\n\n  * x\n",
		"usr/share/doc/qemu-utils/changelog.Debian.amd64.gz": "qemu (1:10.0.13+ds-0+deb13u1+b2) trixie; urgency=low\n",
		"usr/share/doc/qemu-utils/changelog.gz":              "Version 10\n",
		"usr/share/doc/qemu-utils/copyright":                 form + "GPL-2\n\nFiles: a\nLicense: BSD-3-clause\n\nFiles: b\nLicense: GPL-2\n",
		"usr/share/doc/qemu-block-extra":                     "->qemu-utils",
		"usr/share/doc/base-files/changelog.gz":              "base-files (13.8) trixie; urgency=low\n",
		"usr/share/doc/base-files/copyright":                 "License: is not a field here\n",
		"usr/share/other/copyright":                          "x",
	})
	return root
}

func TestReadDebian(t *testing.T) {
	root := debianRoot(t)
	archive := filepath.Join(t.TempDir(), "root.tar")
	var out bytes.Buffer
	writer := tar.NewWriter(&out)
	if err := writer.AddFS(os.DirFS(root)); err != nil {
		t.Fatal(err)
	}
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(archive, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{root, archive} {
		packages, err := readDebian(path)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, p := range packages {
			got = append(got, p.name+" "+p.version+" ["+p.licences+"]")
		}
		want := []string{
			"base-files 13.8 []",
			"qemu-block-extra 1:10.0.13+ds-0+deb13u1+b2 [BSD-3-clause, GPL-2]",
			"qemu-utils 1:10.0.13+ds-0+deb13u1+b2 [BSD-3-clause, GPL-2]",
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q", path, got)
		}
	}
}

func TestReadDebianRefuses(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no packages": {map[string]string{"usr/share/doc/README": "x"}, "has no Debian packages"},
		"no version":  {map[string]string{"usr/share/doc/a/copyright": "x"}, "package a: its usr/share/doc tells no version"},
		"no copyright": {
			map[string]string{"usr/share/doc/a/changelog.gz": "a (1) x; urgency=low\n"}, "tells no version or no copyright",
		},
	} {
		root := t.TempDir()
		lay(t, root, test.files)
		if _, err := readDebian(root); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestLinkedModules(t *testing.T) {
	got := linkedModules(&debug.BuildInfo{GoVersion: "go1.26.0", Deps: []*debug.Module{
		{Path: "example.org/a", Version: "v1.0.0"},
		{Path: "example.org/b", Version: "v1.0.0", Replace: &debug.Module{Path: "example.org/fork", Version: "v2.0.0"}},
		{Path: "libguestfs.org/libnbd", Version: "v0.0.0", Replace: &debug.Module{Path: "../libnbd", Version: "(devel)"}},
		{Path: "github.com/deckhouse/virtualization/api", Version: "v0.0.0"},
	}})
	want := []goModule{{"stdlib", "1.26.0"}, {"example.org/a", "v1.0.0"}, {"example.org/fork", "v2.0.0"}, {"libguestfs.org/libnbd", "v0.0.0"}}
	if !slices.Equal(got, want) {
		t.Errorf("got %v", got)
	}
}

func TestReadLicences(t *testing.T) {
	for name, test := range map[string]struct {
		files map[string]string
		ids   string
	}{
		"one":               {map[string]string{"LICENSE": mit, "main.go": "package main"}, "MIT"},
		"under other names": {map[string]string{"License.txt": mit}, "MIT"},
		"documents":         {map[string]string{"LICENSE": mit, "LICENSE.docs": "Attribution-ShareAlike 4.0 International"}, "MIT"},
		"a notice beside":   {map[string]string{"COPYING": mit, "NOTICE": "by somebody"}, "MIT"},
		"none":              {map[string]string{"README.md": mit}, ""},
		"unknown":           {map[string]string{"LICENSE": "Do as I say, and nothing else."}, ""},
	} {
		folder := t.TempDir()
		lay(t, folder, test.files)
		got, err := readLicences(folder)
		if got.ids != test.ids || (err != nil) != (test.ids == "") {
			t.Errorf("%s: %q, %v", name, got.ids, err)
		}
	}
}

func TestCheckLicences(t *testing.T) {
	shipped := inventory{modules: map[goModule]licence{
		{"example.org/good", "v1"}:      {ids: "Apache-2.0, MIT"},
		{"example.org/bad", "v1"}:       {ids: "GPL-3.0, MIT"},
		{"libguestfs.org/libnbd", "v0"}: {ids: "LGPL-2.1-or-later"},
	}}
	err := checkLicences(shipped)
	if err == nil || err.Error() != "example.org/bad@v1: the licence GPL-3.0 is not among those that allow to ship it" {
		t.Error(err)
	}
}

func TestProgramFile(t *testing.T) {
	root := t.TempDir()
	lay(t, root, map[string]string{"third_party/x/build.yaml": "programs: {renamed: example.org/x/cmd/y}\n"})
	for _, test := range []struct{ module, pkg, want string }{
		{".", "./cmd/dvcr", "dvcr"},
		{"third_party/x", "example.org/x/cmd/y", "renamed"},
		{"third_party/x", "example.org/x/cmd/z", "z"},
		{"third_party/x", "example.org/x/tool/v2", "tool"},
	} {
		if got, err := programFile(root, test.module, test.pkg); got != test.want || err != nil {
			t.Errorf("%s %s is %q, %v", test.module, test.pkg, got, err)
		}
	}
}

func TestModuleOf(t *testing.T) {
	root := t.TempDir()
	lay(t, root, map[string]string{"third_party/x/go.mod": "module x\n\nrequire kubevirt.io/kubevirt v1.8.4\n"})
	got, err := moduleOf(root, "third_party/x", "kubevirt.io/kubevirt/cmd/a/b.conf")
	if want := (goModule{"kubevirt.io/kubevirt", "v1.8.4"}); got != want || err != nil {
		t.Errorf("got %v, %v", got, err)
	}
	if got, err := moduleOf(root, "third_party/x", "example.org/a/b"); err == nil {
		t.Errorf("got %v", got)
	}
}

func TestPathsOfFlags(t *testing.T) {
	p := paths{}
	if err := p.Set("third_party/x=/a=b"); err != nil || p["third_party/x"] != "/a=b" {
		t.Errorf("%v, %v", p, err)
	}
	for _, wrong := range []string{"x", "=x", "x="} {
		if p.Set(wrong) == nil {
			t.Errorf("%q is taken", wrong)
		}
	}
}
