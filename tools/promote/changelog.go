// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"sigs.k8s.io/yaml"
)

// The folder of what is written about versions, below the root of the repository.
const changelogFolder = "CHANGELOG"

// release is an entry of CHANGELOG/releases.yaml.
type release struct {
	Version  string `json:"version"`
	Released string `json:"released"`
}

// changes are what Deckhouse shows of a version before it installs it.
type changes struct {
	Features []string `json:"features,omitempty"`
	Fixes    []string `json:"fixes,omitempty"`
}

// readReleased finds out when a version was released; the zero time stands for a version that is not there.
func readReleased(root, version string) (time.Time, error) {
	var list []release
	path := filepath.Join(root, changelogFolder, "releases.yaml")
	if err := readYAML(path, &list); err != nil {
		return time.Time{}, err
	}
	for _, entry := range list {
		if entry.Version == version {
			released, err := time.Parse(time.DateOnly, entry.Released)
			if err != nil {
				return time.Time{}, fmt.Errorf("%s: the day of %s: %w", path, version, err)
			}
			return released, nil
		}
	}
	return time.Time{}, nil
}

// readChanges reads the changelog of a version; there is none where nothing is in it.
func readChanges(root, version string) (changes, bool, error) {
	var found changes
	err := readYAML(filepath.Join(root, changelogFolder, version+".yaml"), &found)
	if errors.Is(err, fs.ErrNotExist) {
		return found, false, nil
	}
	return found, len(found.Features)+len(found.Fixes) > 0, err
}

// readUpdates reads which versions may be skipped.
func readUpdates(root string) ([]update, error) {
	var module struct {
		Update struct {
			Versions []update `json:"versions"`
		} `json:"update"`
	}
	content, err := os.ReadFile(filepath.Join(root, "module.yaml"))
	if err != nil {
		return nil, err
	}
	if err := yaml.Unmarshal(content, &module); err != nil {
		return nil, fmt.Errorf("module.yaml: %w", err)
	}
	return module.Update.Versions, nil
}

// writeFiles writes what a release image holds beside module.yaml: version.json and changelog.yaml. The version is the
// one in release.yaml.
func writeFiles(root, folder string) error {
	var next struct {
		Version string `json:"version"`
	}
	if err := readYAML(filepath.Join(root, "release.yaml"), &next); err != nil {
		return err
	}
	if !versionFormat.MatchString(next.Version) {
		return fmt.Errorf("release.yaml: %q is no version: write it like v1.2.3", next.Version)
	}
	written, there, err := readChanges(root, next.Version)
	if err != nil {
		return err
	}
	if !there {
		return fmt.Errorf("there is no CHANGELOG/%s.yaml: write what is new", next.Version)
	}
	version, err := json.Marshal(next)
	if err != nil {
		return err
	}
	changelog, err := yaml.Marshal(written)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(folder, "version.json"), version, 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(folder, "changelog.yaml"), changelog, 0o644)
}

func readYAML(path string, into any) error {
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	if err := yaml.UnmarshalStrict(content, into); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}
