// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// common is the file whose keys are ends of paths and serve every kind.
const common = "common"

// dictionary finds the description of a path in one language. It is a directory with one file per kind, which maps full paths
// to texts (the empty path is the kind itself), and common.yaml, which maps ends of paths: the longest end wins.
type dictionary struct {
	name    string
	words   map[string]map[string]string
	used    map[string]map[string]bool
	missing []string
}

func readDictionary(dir string) (*dictionary, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return nil, err
	}
	d := &dictionary{name: filepath.Base(dir), words: map[string]map[string]string{}, used: map[string]map[string]bool{}}
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

// find returns the description of a path, if there is one.
func (d *dictionary) find(kind, path string) (string, bool) {
	if text, ok := d.words[kind][path]; ok {
		d.used[kind][path] = true
		return strings.TrimSpace(text), true
	}
	for end := path; end != ""; end = shorten(end) {
		// One name alone says too little to stand for a field somewhere deep: "status" is many things.
		if end != path && !strings.Contains(end, ".") {
			break
		}
		if text, ok := d.words[common][end]; ok {
			d.used[common][end] = true
			return strings.TrimSpace(text), true
		}
	}
	return "", false
}

// need is find for paths that must have a description. It notes what is missing instead of failing, so that one run
// tells everything.
func (d *dictionary) need(kind, path string) string {
	text, ok := d.find(kind, path)
	if !ok {
		d.missing = append(d.missing, fmt.Sprintf("%s/%s.yaml: no description of %q", d.name, kind, path))
	}
	return text
}

// shorten cuts the first element off a path.
func shorten(path string) string {
	_, rest, _ := strings.Cut(path, ".")
	return rest
}

// verdict complains about paths without a description and about descriptions without a path.
func (d *dictionary) verdict() error {
	problems := slices.Clone(d.missing)
	for name, words := range d.words {
		for path := range words {
			if !d.used[name][path] {
				problems = append(problems, fmt.Sprintf("%s/%s.yaml: no field is called %q", d.name, name, path))
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return errors.New(strings.Join(problems, "\n"))
}
