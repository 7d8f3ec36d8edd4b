// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package bundle lays out a module the way its released bundle is, from the
// repository and a compiled hook binary, and keeps the copy up to date: so the
// platform runs exactly what a release would hold.
package bundle

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Change says what an update of the bundle asks for.
type Change int

const (
	// Nothing changed.
	Nothing Change = iota
	// Release: another run of the Helm release is enough.
	Release
	// Structure: hooks, schemas, CRDs or the definition are read at start only.
	Structure
)

// parts are what a bundle consists of, and what a change of each asks for.
// Everything else in the repository is no part of the module.
var parts = map[string]Change{
	".helmignore": Release,
	"Chart.yaml":  Structure,
	"charts":      Release,
	"crds":        Structure,
	"module.yaml": Structure,
	"monitoring":  Release,
	"openapi":     Structure,
	"templates":   Release,
}

// hooksFolder of a bundle holds the hook binary alone: the sources beside it in
// the repository are none of addon-operator's business.
const hooksFolder = "hooks"

// Bundle is a copy of a module.
type Bundle struct {
	// Source is the module's folder: the repository or an unpacked bundle.
	Source string
	// HookBinaries are put into hooks/ under their own names. Without any those
	// in Source are taken.
	HookBinaries []string
	// Target is the folder of the copy.
	Target string
}

// file is one file of the bundle.
type file struct {
	source string
	mode   fs.FileMode
	change Change
}

// Sync makes Target equal to what the bundle is now and says what that asks for.
// Where it fails in the middle it says what was changed until then: the next time
// that is no change any more.
func (b Bundle) Sync() (Change, error) {
	wanted, err := b.files()
	if err != nil {
		return Nothing, err
	}
	worst, err := b.removeOthers(wanted)
	if err != nil {
		return worst, err
	}
	for name, f := range wanted {
		changed, err := copyFile(f, filepath.Join(b.Target, name))
		if err != nil {
			return worst, fmt.Errorf("copy %s into the bundle: %w", name, err)
		}
		if changed {
			worst = max(worst, f.change)
		}
	}
	return worst, nil
}

// DigestsFile is where a released bundle says which images belong to it.
const DigestsFile = "images_digests.json"

// AddDigests completes Target to what is released.
func (b Bundle) AddDigests(path string) error {
	_, err := copyFile(file{source: path, mode: 0o644}, filepath.Join(b.Target, DigestsFile))
	if err != nil {
		return fmt.Errorf("copy the images' digests into the bundle: %w", err)
	}
	return nil
}

// files maps the names in the bundle to the files that belong there.
func (b Bundle) files() (map[string]file, error) {
	found := map[string]file{}
	for part, change := range parts {
		err := filepath.WalkDir(filepath.Join(b.Source, part), func(path string, entry fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			if err != nil || !entry.Type().IsRegular() {
				return err
			}
			name, err := filepath.Rel(b.Source, path)
			found[name] = file{source: path, mode: 0o644, change: change}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("list the module's files: %w", err)
		}
	}
	if _, complete := found["module.yaml"]; !complete {
		return nil, fmt.Errorf("%s holds no module.yaml: name the folder of the module", b.Source)
	}
	return found, b.addHooks(found)
}

func (b Bundle) addHooks(found map[string]file) error {
	binaries := b.HookBinaries
	if len(binaries) == 0 {
		entries, err := os.ReadDir(filepath.Join(b.Source, hooksFolder))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, entry := range entries {
			if isHook(entry) {
				binaries = append(binaries, filepath.Join(b.Source, hooksFolder, entry.Name()))
			}
		}
	}
	for _, binary := range binaries {
		found[filepath.Join(hooksFolder, filepath.Base(binary))] = file{source: binary, mode: 0o755, change: Structure}
	}
	return nil
}

// isHook says what addon-operator takes for a batch hook.
func isHook(entry fs.DirEntry) bool {
	info, err := entry.Info()
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0 && !strings.Contains(entry.Name(), ".")
}

// removeOthers deletes from Target what is no longer in the bundle.
func (b Bundle) removeOthers(wanted map[string]file) (Change, error) {
	var extra []string
	err := filepath.WalkDir(b.Target, func(path string, entry fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || entry.IsDir() {
			return err
		}
		name, err := filepath.Rel(b.Target, path)
		if _, keep := wanted[name]; err == nil && !keep {
			extra = append(extra, name)
		}
		return err
	})
	if err != nil {
		return Nothing, fmt.Errorf("list the bundle: %w", err)
	}
	worst := Nothing
	for _, name := range extra {
		if err := os.Remove(filepath.Join(b.Target, name)); err != nil {
			return worst, err
		}
		worst = max(worst, changeOf(name))
	}
	return worst, nil
}

func changeOf(name string) Change {
	top, _, _ := strings.Cut(name, string(filepath.Separator))
	if change, known := parts[top]; known {
		return change
	}
	return Structure
}

// copyFile writes a file only if its content differs. A hook may be running
// while it is replaced, so the new file takes the place of the old one at once.
func copyFile(f file, target string) (bool, error) {
	content, err := os.ReadFile(f.source)
	if err != nil {
		return false, err
	}
	if old, err := os.ReadFile(target); err == nil && bytes.Equal(old, content) {
		return false, nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return false, err
	}
	temporary := target + ".new"
	if err := os.WriteFile(temporary, content, f.mode); err != nil {
		return false, err
	}
	return true, os.Rename(temporary, target)
}

// Fingerprint changes when any file of the bundle may have changed. It looks at
// names, sizes and times only, so it can be asked every second.
func (b Bundle) Fingerprint() string {
	found, err := b.files()
	if err != nil {
		return err.Error()
	}
	return fingerprint(found)
}

func fingerprint(found map[string]file) string {
	var lines []string
	for name, f := range found {
		lines = append(lines, name+" "+Stamp(f.source))
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// Stamp tells the size and time of a file.
func Stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return "absent"
	}
	return fmt.Sprintf("%d %d", info.Size(), info.ModTime().UnixNano())
}
