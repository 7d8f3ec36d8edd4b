// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestKeyChangesWithEveryField keeps an image from being taken out of the cache
// when anything that its definition says has changed.
func TestKeyChangesWithEveryField(t *testing.T) {
	changes := map[string]func(*materials){
		"nothing":          func(*materials) {},
		"base":             func(m *materials) { m.definition.Base = "b" },
		"suite":            func(m *materials) { m.definition.Debian.Suite = "forky" },
		"packages":         func(m *materials) { m.definition.Debian.Packages = []string{"b"} },
		"keep":             func(m *materials) { m.definition.Debian.Keep = []string{"b"} },
		"exclude":          func(m *materials) { m.definition.Debian.Exclude = []string{"b"} },
		"caBundle":         func(m *materials) { m.definition.Debian.CABundle = []string{"/b"} },
		"program's path":   func(m *materials) { m.definition.Build[0].Path = "/b" },
		"capabilities":     func(m *materials) { m.definition.Build[0].Capabilities = []string{"net_raw"} },
		"file's path":      func(m *materials) { m.definition.Files[0].Path = "/b" },
		"file's mode":      func(m *materials) { m.definition.Files[0].Mode = "0600" },
		"file's owner":     func(m *materials) { m.definition.Files[0].Owner = "1:1" },
		"directory":        func(m *materials) { m.definition.Directories = []Directory{{Path: "/b"}} },
		"link":             func(m *materials) { m.definition.Links = []Link{{Path: "/b", Target: "c"}} },
		"user":             func(m *materials) { m.definition.Users = []User{{Name: "b"}} },
		"group":            func(m *materials) { m.definition.Groups = []Group{{Name: "b"}} },
		"entrypoint":       func(m *materials) { m.definition.Config.Entrypoint = []string{"/b"} },
		"user that runs":   func(m *materials) { m.definition.Config.User = "1:1" },
		"variable":         func(m *materials) { m.definition.Config.Env = []string{"A=b"} },
		"folder to run in": func(m *materials) { m.definition.Config.WorkingDir = "/b" },
		"packages' root":   func(m *materials) { m.root.Key = "changed" },
		"program":          func(m *materials) { m.programs[0].Key = "changed" },
		"file":             func(m *materials) { m.files[0].Key = "changed" },
		"program for file": func(m *materials) { m.programs[0].Key, m.files[0].Key = "file", "program" },
	}
	seen := map[string]string{}
	for name, change := range changes {
		m := &materials{
			definition: &Definition{
				Debian: &Debian{Suite: "trixie", Packages: []string{"a"}},
				Build:  []Build{{Module: "m", Package: "p", Path: "/p"}},
				Files:  []File{{Source: "f", Path: "/f"}},
			},
			root: Artifact{Key: "root"}, programs: []Artifact{{Key: "program"}}, files: []Artifact{{Key: "file"}},
		}
		change(m)
		key, err := m.key()
		if err != nil {
			t.Fatal(err)
		}
		if other, found := seen[key]; found {
			t.Errorf("a change of %s and one of %s have the same key", name, other)
		}
		seen[key] = name
	}
}

// TestKeyDoesNotDependOnPlaces lets two checkouts of the same sources share what
// was made.
func TestKeyDoesNotDependOnPlaces(t *testing.T) {
	key := func(dir string) string {
		m := &materials{
			definition: &Definition{Name: "x", Dir: dir, Build: []Build{{Module: "m", Package: "p", Path: "/p"}}},
			programs:   []Artifact{{Path: filepath.Join(dir, "program"), Key: "program"}},
		}
		got, err := m.key()
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	if key("/one") != key("/two") {
		t.Error("the same image has another key in another folder")
	}
}

func TestLocalFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "f")
	if err := os.WriteFile(file, []byte("content"), 0o644); err != nil {
		t.Fatal(err)
	}
	artifact, err := localFile(file)
	if err != nil {
		t.Fatal(err)
	}
	want := Artifact{Path: file, Key: "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73"}
	if artifact != want {
		t.Errorf("got %+v, want %+v", artifact, want)
	}
	if _, err := localFile(file + ".missing"); !os.IsNotExist(err) {
		t.Errorf("got error %v", err)
	}
}

func TestParents(t *testing.T) {
	tests := map[string]struct {
		entries []string
		lower   []string
		want    string
	}{
		"none":                      {entries: []string{"/f"}, want: "f"},
		"all the way":               {entries: []string{"/a/b/f"}, want: "a/ a/b/ a/b/f"},
		"each once":                 {entries: []string{"/a/f", "/a/g", "/a/b/h"}, want: "a/ a/b/ a/b/h a/f a/g"},
		"not those of lower layers": {entries: []string{"/a/b/f"}, lower: []string{"a"}, want: "a/b/ a/b/f"},
		"not one that is given":     {entries: []string{"/a/", "/a/f"}, want: "a/ a/f"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var entries []entry
			for _, path := range test.entries {
				if strings.HasSuffix(path, "/") {
					entries = append(entries, directoryEntry(path, 0o700, 0, 0))
				} else {
					entries = append(entries, contentEntry(path, nil, 0o644))
				}
			}
			lower := map[string]bool{}
			for _, dir := range test.lower {
				lower[dir] = true
			}
			entries = withParents(entries, lower)
			sortEntries(entries)
			var names []string
			for _, e := range entries {
				names = append(names, e.header.Name)
			}
			if got := strings.Join(names, " "); got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

func TestRights(t *testing.T) {
	for text, want := range map[string]int64{"": 0o644, "0755": 0o755, "1777": 0o1777} {
		if got, err := parseMode(text, 0o644); err != nil || got != want {
			t.Errorf("mode %q is %o, %v", text, got, err)
		}
	}
	for text, want := range map[string][2]int{"": {0, 0}, "107:108": {107, 108}} {
		if uid, gid, err := parseOwner(text); err != nil || [2]int{uid, gid} != want {
			t.Errorf("owner %q is %d:%d, %v", text, uid, gid, err)
		}
	}
	for _, text := range []string{"1", "a:1", "1:a"} {
		if _, _, err := parseOwner(text); err == nil {
			t.Errorf("owner %q was taken", text)
		}
	}
}

func TestWants(t *testing.T) {
	debian := Debian{
		Keep:    []string{"usr/lib", "etc/*.conf", "bin"},
		Exclude: []string{"usr/lib/{systemd,udev}", "usr/lib/**/*.a"},
	}
	for name, want := range map[string]bool{
		"usr":                     false,
		"usr/lib":                 true,
		"usr/lib/x/libc.so":       true,
		"usr/lib/x/y/libc.a":      false,
		"usr/lib/systemd":         false,
		"usr/lib/systemd/systemd": false,
		"usr/lib/systemd-more":    true,
		"etc/host.conf":           true,
		"etc/hosts":               false,
		"etc/deep/host.conf":      false,
		"bin":                     true,
		"":                        false,
	} {
		if got := debian.wants(name); got != want {
			t.Errorf("wants(%q) = %v, want %v", name, got, want)
		}
	}
	if everything := (&Debian{}); !everything.wants("usr/bin/x") {
		t.Error("without globs something is left out")
	}
}
