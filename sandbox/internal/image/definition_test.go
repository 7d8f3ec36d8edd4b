// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const valid = `
description: A program
build:
  - {module: ., package: ./cmd/program, path: /usr/bin/program}
config:
  entrypoint: [/usr/bin/program]
`

// writeDefinition puts a definition into a folder of images and returns its file.
func writeDefinition(t *testing.T, dir, name, content string) string {
	t.Helper()
	folder := filepath.Join(dir, name)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(folder, FileName)
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return file
}

func TestLoadReadsEveryField(t *testing.T) {
	file := writeDefinition(t, t.TempDir(), "some-image", `
description: Everything at once
baseOnly: true
debian:
  suite: trixie
  packages: [bash]
  keep: [usr/**]
  exclude: [usr/share/doc]
  caBundle: [/etc/ssl/certs/ca-certificates.crt]
build:
  - {module: m, package: example.org/p, path: /usr/bin/p, capabilities: [net_bind_service]}
  - {module: m, cSource: example.org/c/main.c, path: /usr/bin/c}
files:
  - {source: f, path: /etc/f, mode: "0600", owner: "1:2"}
directories:
  - {path: /tmp, mode: "1777"}
links:
  - {path: /var/run, target: ../run}
users:
  - {name: root, id: 0, home: /root, shell: /bin/bash}
groups:
  - {name: kvm, id: 36}
config:
  user: "1:2"
  env: [A=b]
  workingDir: /tmp
`)
	definition, err := Load(file)
	if err != nil {
		t.Fatal(err)
	}
	if definition.Name != "some-image" || definition.Dir != filepath.Dir(file) {
		t.Errorf("got name %q and folder %q", definition.Name, definition.Dir)
	}
	if got := definition.Build[1].CSource; got != "example.org/c/main.c" {
		t.Errorf("cSource is %q", got)
	}
	if got := definition.Files[0]; got != (File{Source: "f", Path: "/etc/f", Mode: "0600", Owner: "1:2"}) {
		t.Errorf("file is %+v", got)
	}
	if !slices.Equal(definition.Debian.Exclude, []string{"usr/share/doc"}) || definition.Groups[0].ID != 36 {
		t.Errorf("got %+v and %+v", definition.Debian, definition.Groups)
	}
}

func TestLoadNamesWhatIsWrong(t *testing.T) {
	tests := map[string]struct {
		name    string
		content string
		want    string
	}{
		"no YAML":                {content: "a: b: c", want: "mapping values are not allowed"},
		"key twice":              {content: valid + "description: again\n", want: `key "description" already set`},
		"unknown field":          {content: valid + "entrypoint: [/x]\n", want: `unknown field "entrypoint"`},
		"unknown field inside":   {content: strings.Replace(valid, "path: /usr", "paht: /usr", 1), want: `unknown field "build[0].paht"`},
		"wrong case":             {content: strings.Replace(valid, "description", "Description", 1), want: `unknown field "Description"`},
		"name with capitals":     {name: "Image", content: valid, want: `name: Invalid value: "Image"`},
		"no description":         {content: strings.Replace(valid, "description: A program", "", 1), want: "description: Required value: say in one line"},
		"no module":              {content: strings.Replace(valid, "module: ., ", "", 1), want: "build[0].module: Required value"},
		"neither package nor C":  {content: strings.Replace(valid, "package: ./cmd/program, ", "", 1), want: "build[0].package: Invalid value: \"\": give either package or cSource"},
		"package and C":          {content: strings.Replace(valid, "package:", "cSource: a/b.c, package:", 1), want: "build[0].package: Invalid value"},
		"relative path":          {content: strings.Replace(valid, "path: /usr", "path: usr", 1), want: "build[0].path: Invalid value: \"usr/bin/program\": write an absolute path"},
		"path with dots":         {content: strings.Replace(valid, "path: /usr/bin", "path: /usr/../bin", 1), want: "build[0].path: Invalid value"},
		"path behind a link":     {content: strings.Replace(valid, "path: /usr/bin", "path: /bin", 1), want: "build[0].path: Invalid value: \"/bin/program\": write it under /usr"},
		"no path":                {content: strings.Replace(valid, ", path: /usr/bin/program", "", 1), want: "build[0].path: Required value"},
		"unknown capability":     {content: strings.Replace(valid, "path: /usr", "capabilities: [all], path: /usr", 1), want: `build[0].capabilities[0]: Unsupported value: "all"`},
		"no entrypoint":          {content: "description: x\n", want: "config.entrypoint: Required value"},
		"relative entrypoint":    {content: strings.Replace(valid, "[/usr/bin/program]", "[program]", 1), want: "config.entrypoint[0]: Invalid value"},
		"entrypoint of a base":   {content: valid + "baseOnly: true\n", want: "config.entrypoint: Forbidden"},
		"user by name":           {content: valid + "  user: nobody\n", want: `config.user: Invalid value: "nobody": write uid:gid`},
		"variable without value": {content: valid + "  env: [A]\n", want: "config.env[0]: Invalid value"},
		"file outside":           {content: valid + "files: [{source: ../x, path: /x}]\n", want: "files[0].source: Invalid value: \"../x\": stay inside"},
		"file without source":    {content: valid + "files: [{path: /x}]\n", want: "files[0].source: Required value"},
		"mode of three digits":   {content: valid + "files: [{source: x, path: /x, mode: \"755\"}]\n", want: "files[0].mode: Invalid value: \"755\": write four octal digits"},
		"owner by name":          {content: valid + "directories: [{path: /x, owner: root}]\n", want: "directories[0].owner: Invalid value"},
		"link to nothing":        {content: valid + "links: [{path: /x}]\n", want: "links[0].target: Required value"},
		"one path twice":         {content: valid + "links: [{path: /usr/bin/program, target: x}]\n", want: `links[0].path: Duplicate value: "/usr/bin/program"`},
		"user without name":      {content: valid + "users: [{id: 1}]\n", want: "users[0].name: Required value"},
		"negative user":          {content: valid + "users: [{name: a, id: -1}]\n", want: "users[0].id: Invalid value"},
		"Debian on a base":       {content: valid + "base: b\ndebian: {suite: trixie, packages: [bash]}\n", want: "debian: Forbidden"},
		"Debian without suite":   {content: valid + "debian: {packages: [bash]}\n", want: "debian.suite: Required value"},
		"Debian of nothing":      {content: valid + "debian: {suite: trixie}\n", want: "debian.packages: Required value"},
		"broken glob":            {content: valid + "debian: {suite: trixie, packages: [bash], exclude: ['a{b']}\n", want: "debian.exclude[0]: Invalid value"},
		"absolute glob":          {content: valid + "debian: {suite: trixie, packages: [bash], keep: [/usr]}\n", want: "debian.keep[0]: Invalid value"},
		"relative CA bundle":     {content: valid + "debian: {suite: trixie, packages: [bash], caBundle: [etc/x]}\n", want: "debian.caBundle[0]: Invalid value"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if test.name == "" {
				test.name = "image"
			}
			file := writeDefinition(t, t.TempDir(), test.name, test.content)
			_, err := Load(file)
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("got error %v, want one with %q", err, test.want)
			}
			if !strings.HasPrefix(err.Error(), file) {
				t.Errorf("error %v does not begin with the file's name", err)
			}
		})
	}
}

func TestLoadSetChecksBases(t *testing.T) {
	const base = "description: A base\nbaseOnly: true\ndirectories: [{path: /tmp}]\n"
	tests := map[string]struct {
		definitions map[string]string
		want        string
	}{
		"fits":                {definitions: map[string]string{"base-a": base, "b": valid + "base: base-a\n"}},
		"missing base":        {definitions: map[string]string{"b": valid + "base: base-a\n"}, want: `no image is called "base-a"`},
		"base that runs":      {definitions: map[string]string{"a": valid, "b": valid + "base: a\n"}, want: `"a" is not marked baseOnly`},
		"base on a base":      {definitions: map[string]string{"base-a": base, "base-b": base + "base: base-a\n"}, want: "an image that is baseOnly has none"},
		"bases in a circle":   {definitions: map[string]string{"base-a": base + "base: base-b\n", "base-b": base + "base: base-a\n"}, want: "has a base itself"},
		"two wrong at a time": {definitions: map[string]string{"a": "x: y", "b": "z: y"}, want: `unknown field "z"`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			for image, content := range test.definitions {
				writeDefinition(t, dir, image, content)
			}
			_, err := LoadSet(dir)
			if test.want == "" && err != nil {
				t.Fatal(err)
			}
			if test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Fatalf("got error %v, want one with %q", err, test.want)
			}
		})
	}
}

func TestSetListsAndChains(t *testing.T) {
	dir := t.TempDir()
	writeDefinition(t, dir, "base-a", "description: A base\nbaseOnly: true\n")
	writeDefinition(t, dir, "b", valid+"base: base-a\n")
	set, err := LoadSet(dir)
	if err != nil {
		t.Fatal(err)
	}
	if got := set.Names(); !slices.Equal(got, []string{"b", "base-a"}) {
		t.Errorf("names are %v", got)
	}
	if got := set.Runnable(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("images that run are %v", got)
	}
	chain, err := set.Chain("b")
	if err != nil {
		t.Fatal(err)
	}
	if len(chain) != 2 || chain[0].Name != "base-a" || chain[1].Name != "b" {
		t.Errorf("the chain is %v", chain)
	}
	if _, err := set.Chain("c"); err == nil || err.Error() != `no image is called "c", there are: b, base-a` {
		t.Errorf("got error %v", err)
	}
}

func TestCamelCase(t *testing.T) {
	for name, want := range map[string]string{"dvcr": "dvcr", "virt-handler": "virtHandler", "a-b-c": "aBC"} {
		if got := CamelCase(name); got != want {
			t.Errorf("CamelCase(%q) = %q, want %q", name, got, want)
		}
	}
}

// TestRepositoryDefinitions checks the definitions that are there, and that the
// templates' names for the module's images stay what they are.
func TestRepositoryDefinitions(t *testing.T) {
	for _, dir := range []string{"images", "sandbox/images"} {
		if _, err := LoadSet(filepath.Join("..", "..", "..", dir)); err != nil {
			t.Error(err)
		}
	}
	set, err := LoadSet("../../../images")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"cdi-apiserver", "cdi-cloner", "cdi-controller", "cdi-importer", "cdi-operator", "cdi-uploadproxy", "cdi-uploadserver",
		"dvcr", "importer", "virt-api", "virt-controller", "virt-exportproxy", "virt-exportserver", "virt-handler", "virt-launcher",
		"virt-operator", "virtualization-api", "virtualization-controller", "vm-router",
	}
	if got := set.Runnable(); !slices.Equal(got, want) {
		t.Errorf("images are %v, want %v", got, want)
	}
}

// Programs name what loads them by a path under lib64, which is in a package that no
// other needs: without it nothing in the image starts.
func TestImagesWithTheCLibraryHaveItsPlace(t *testing.T) {
	set, err := LoadSet("../../../images")
	if err != nil {
		t.Fatal(err)
	}
	checked := 0
	for name, definition := range set.definitions {
		if definition.Debian == nil || definition.Base != "" || !slices.Contains(definition.Debian.Keep, "lib64") {
			continue
		}
		checked++
		if !slices.Contains(definition.Debian.Packages, "base-files") {
			t.Errorf("%s keeps lib64 but has not the package that it is in, base-files", name)
		}
	}
	if checked == 0 {
		t.Error("no image has the C library")
	}
}
