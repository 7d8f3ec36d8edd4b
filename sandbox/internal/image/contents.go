// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
)

// formatVersion is part of every key: raise it when the way that layers are
// written changes, so that nothing made the old way is taken from the cache.
const formatVersion = 1

// materials are the files that one definition asks for, all present on disk.
type materials struct {
	definition *Definition
	root       Artifact
	programs   []Artifact
	files      []Artifact
}

// gather gets everything that a definition asks for.
func gather(ctx context.Context, inputs Inputs, d *Definition, programs map[Program]Artifact) (*materials, error) {
	m := &materials{definition: d}
	var err error
	if d.Debian != nil {
		if m.root, err = inputs.PackageRoot(ctx, d.Debian.Suite, d.Debian.Packages); err != nil {
			return nil, d.explain("debian", err)
		}
	}
	for i, b := range d.Build {
		artifact := programs[Program{Module: b.Module, Package: b.Package}]
		if b.CSource != "" {
			if artifact, err = inputs.CProgram(ctx, b.Module, b.CSource); err != nil {
				return nil, d.explain(fmt.Sprintf("build[%d]", i), err)
			}
		}
		m.programs = append(m.programs, artifact)
	}
	for i, f := range d.Files {
		var artifact Artifact
		if f.Module != "" {
			artifact, err = inputs.ModuleFile(ctx, f.Module, f.Source)
		} else {
			artifact, err = localFile(filepath.Join(d.Dir, f.Source))
		}
		if err != nil {
			return nil, d.explain(fmt.Sprintf("files[%d]", i), err)
		}
		m.files = append(m.files, artifact)
	}
	return m, nil
}

func (d *Definition) explain(field string, err error) error {
	return fmt.Errorf("%s: %s: %w", filepath.Join(d.Dir, FileName), field, err)
}

func localFile(name string) (Artifact, error) {
	file, err := os.Open(name)
	if err != nil {
		return Artifact{}, err
	}
	defer file.Close()
	hash := sha256.New()
	if _, err := io.Copy(hash, file); err != nil {
		return Artifact{}, err
	}
	return Artifact{Path: name, Key: hex.EncodeToString(hash.Sum(nil))}, nil
}

// key identifies the layers made of the materials.
func (m *materials) key() (string, error) {
	document, err := json.Marshal([]any{formatVersion, m.definition, m.root.Key, keysOf(m.programs), keysOf(m.files)})
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(document)
	return hex.EncodeToString(sum[:]), nil
}

func keysOf(artifacts []Artifact) []string {
	var keys []string
	for _, artifact := range artifacts {
		keys = append(keys, artifact.Key)
	}
	return keys
}

// layers makes the layers of one definition; lower holds the folders of its base.
func (m *materials) layers(lower map[string]bool) ([]*layer, map[string]bool, error) {
	var layers []*layer
	if m.definition.Debian != nil {
		write, directories, err := debianLayer(m.definition.Debian, m.root.Path)
		if err != nil {
			return nil, nil, m.definition.explain("debian", err)
		}
		packages, err := newLayer(write)
		if err != nil {
			return nil, nil, m.definition.explain("debian", err)
		}
		layers, lower = append(layers, packages), directories
	}
	entries, err := m.entries()
	if err != nil {
		return nil, nil, err
	}
	if len(entries) == 0 {
		return layers, lower, nil
	}
	entries = withParents(entries, lower)
	sortEntries(entries)
	own, err := newLayer(writeEntries(entries))
	if err != nil {
		return nil, nil, m.definition.explain("files", err)
	}
	return append(layers, own), merge(lower, entries), nil
}

// entries lists what the definition's own layer holds.
func (m *materials) entries() ([]entry, error) {
	d := m.definition
	entries := accountEntries(d.Users, d.Groups)
	for i, b := range d.Build {
		e, err := fileEntry(b.Path, m.programs[i].Path, 0o755, 0, 0)
		if err != nil {
			return nil, d.explain(fmt.Sprintf("build[%d]", i), err)
		}
		e.setCapabilities(b.Capabilities)
		entries = append(entries, e)
	}
	for i, f := range d.Files {
		// Modes and owners were checked when the definition was read.
		mode, _ := parseMode(f.Mode, 0o644)
		uid, gid, _ := parseOwner(f.Owner)
		e, err := fileEntry(f.Path, m.files[i].Path, mode, uid, gid)
		if err != nil {
			return nil, d.explain(fmt.Sprintf("files[%d]", i), err)
		}
		entries = append(entries, e)
	}
	for _, dir := range d.Directories {
		mode, _ := parseMode(dir.Mode, 0o755)
		uid, gid, _ := parseOwner(dir.Owner)
		entries = append(entries, directoryEntry(dir.Path, mode, uid, gid))
	}
	for _, link := range d.Links {
		entries = append(entries, linkEntry(link.Path, link.Target))
	}
	return entries, nil
}

// accountEntries writes the accounts as the C library reads them.
func accountEntries(users []User, groups []Group) []entry {
	if len(users) == 0 && len(groups) == 0 {
		return nil
	}
	var passwd, group strings.Builder
	for _, user := range users {
		home, shell := user.Home, user.Shell
		if home == "" {
			home = "/nonexistent"
		}
		if shell == "" {
			shell = "/usr/sbin/nologin"
		}
		fmt.Fprintf(&passwd, "%s:x:%d:%d::%s:%s\n", user.Name, user.ID, user.ID, home, shell)
		fmt.Fprintf(&group, "%s:x:%d:\n", user.Name, user.ID)
	}
	for _, g := range groups {
		fmt.Fprintf(&group, "%s:x:%d:\n", g.Name, g.ID)
	}
	return []entry{
		contentEntry("/etc/passwd", []byte(passwd.String()), 0o644),
		contentEntry("/etc/group", []byte(group.String()), 0o644),
		contentEntry("/etc/nsswitch.conf", []byte("passwd: files\ngroup: files\nhosts: files dns\n"), 0o644),
	}
}

// merge adds the folders among entries to those of a lower layer.
func merge(lower map[string]bool, entries []entry) map[string]bool {
	all := map[string]bool{}
	for name := range lower {
		all[name] = true
	}
	for _, e := range entries {
		if strings.HasSuffix(e.header.Name, "/") {
			all[trimSlash(e.header.Name)] = true
		}
	}
	return all
}
