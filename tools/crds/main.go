// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command crds turns what controller-gen writes into the files of crds/: one file per resource named after it, and a
// twin of each that holds the Russian descriptions, which Deckhouse's documentation shows.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// twinPrefix keeps the twins apart from the resources; Deckhouse skips files that begin with it when it installs CRDs.
const twinPrefix = "doc-ru-"

func main() {
	from := flag.String("from", "", "directory with the output of controller-gen")
	russian := flag.String("russian", "", "directory with the Russian descriptions")
	to := flag.String("to", "", "directory to write")
	flag.Parse()
	if err := run(*from, *russian, *to); err != nil {
		fmt.Fprintln(os.Stderr, "crds:", err)
		os.Exit(1)
	}
}

func run(from, russian, to string) error {
	dictionary, err := readDictionary(russian)
	if err != nil {
		return err
	}
	sources, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	if len(sources) == 0 {
		return fmt.Errorf("-from: no *.yaml in %q; let controller-gen write its CRDs there first", from)
	}
	written := map[string]bool{}
	for _, source := range sources {
		resource, err := readResource(source)
		if err != nil {
			return err
		}
		for name, content := range map[string]any{
			resource.name() + ".yaml":              resource.tidy(),
			twinPrefix + resource.name() + ".yaml": resource.twin(dictionary),
		} {
			written[name] = true
			if err := writeYAML(filepath.Join(to, name), content); err != nil {
				return err
			}
		}
	}
	if err := dictionary.verdict(); err != nil {
		return err
	}
	return removeOthers(to, written)
}

// removeOthers deletes the files of resources that no longer exist.
func removeOthers(dir string, keep map[string]bool) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		if keep[filepath.Base(file)] || strings.HasPrefix(filepath.Base(file), ".") {
			continue
		}
		if err := os.Remove(file); err != nil {
			return err
		}
	}
	return nil
}
