// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"
)

// common is the file whose keys are ends of paths and serve every kind.
const common = "common"

// dictionary finds the Russian description of a path. It is a directory with one file per kind, which maps full paths
// to texts (the empty path is the kind itself), and common.yaml, which maps ends of paths: the longest end wins.
type dictionary struct {
	words   map[string]map[string]string
	used    map[string]map[string]bool
	missing []string
}

func readDictionary(dir string) (*dictionary, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	d := &dictionary{words: map[string]map[string]string{}, used: map[string]map[string]bool{}}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		words := map[string]string{}
		if err := yaml.Unmarshal(data, &words); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		d.words[name], d.used[name] = words, map[string]bool{}
	}
	return d, nil
}

// lookup notes what is missing instead of failing, so that one run tells everything.
func (d *dictionary) lookup(kind, path string) string {
	if text, ok := d.words[kind][path]; ok {
		d.used[kind][path] = true
		return strings.TrimSpace(text)
	}
	for end := path; end != ""; end = shorten(end) {
		if text, ok := d.words[common][end]; ok {
			d.used[common][end] = true
			return strings.TrimSpace(text)
		}
	}
	d.missing = append(d.missing, kind+": "+path)
	return ""
}

// shorten cuts the first element off a path.
func shorten(path string) string {
	_, rest, _ := strings.Cut(path, ".")
	return rest
}

// verdict complains about paths without a description and about descriptions without a path.
func (d *dictionary) verdict() error {
	problems := make([]string, 0, len(d.missing))
	for _, path := range d.missing {
		problems = append(problems, "no Russian description of "+path)
	}
	for name, words := range d.words {
		for path := range words {
			if !d.used[name][path] {
				problems = append(problems, fmt.Sprintf("russian/%s.yaml: no field is called %q", name, path))
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	sort.Strings(problems)
	return fmt.Errorf("%s", strings.Join(problems, "\n"))
}
