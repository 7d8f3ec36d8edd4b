// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command crds turns what controller-gen writes into the files of crds/: one file per resource named after it, and a
// twin of each that holds the Russian descriptions, which Deckhouse's documentation shows.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

//go:generate ../generate.sh

// twinPrefix keeps the twins apart from the resources; Deckhouse skips files that begin with it when it installs CRDs.
const twinPrefix = "doc-ru-"

func main() {
	from := flag.String("from", "", "directory with the output of controller-gen")
	words := flag.String("words", "", "directory with the directories of descriptions english/ and russian/")
	to := flag.String("to", "", "directory to write")
	flag.Parse()
	if err := run(*from, *words, *to); err != nil {
		fmt.Fprintln(os.Stderr, "crds:", err)
		os.Exit(1)
	}
}

func run(from, words, to string) error {
	english, err := readDictionary(filepath.Join(words, "english"))
	if err != nil {
		return err
	}
	russian, err := readDictionary(filepath.Join(words, "russian"))
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
	for _, source := range sources {
		resource, err := readResource(source)
		if err != nil {
			return err
		}
		// The twin follows the tidied resource: what has no description there needs none here.
		tidied := resource.tidy(english)
		twin := resource.twin(russian)
		for name, content := range map[string]object{
			resource.name() + ".yaml":              tidied,
			twinPrefix + resource.name() + ".yaml": twin,
		} {
			if err := writeYAML(filepath.Join(to, name), content); err != nil {
				return err
			}
		}
	}
	return errors.Join(english.verdict(), russian.verdict())
}
