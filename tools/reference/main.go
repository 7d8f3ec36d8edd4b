// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command reference writes the reference pages of docs/, in English and Russian: one for each kind, from the files of
// crds/ and their twins, and one of all conditions and reasons, from the constants of the API.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// twinPrefix begins the names of the files with Russian descriptions.
const twinPrefix = "doc-ru-"

// group is the module's own; the definitions of the engine stand beside those of the module and get no page.
const group = "virtualization.deckhouse.io"

func main() {
	crds := flag.String("crds", "", "directory with the definitions of kinds and their twins")
	api := flag.String("api", "", "directory with the package of the API")
	words := flag.String("words", "", "directory with the words of both languages, and the Russian descriptions of conditions and reasons")
	to := flag.String("to", "", "directory to write")
	flag.Parse()
	if err := run(*crds, *api, *words, *to); err != nil {
		fmt.Fprintln(os.Stderr, "reference:", err)
		os.Exit(1)
	}
}

func run(crds, api, words, to string) error {
	english, err := readLanguage(filepath.Join(words, "en.yaml"))
	if err != nil {
		return err
	}
	russian, err := readLanguage(filepath.Join(words, "ru.yaml"))
	if err != nil {
		return err
	}
	pages, err := kindPages(crds, english, russian)
	if err != nil {
		return err
	}
	groups, err := readConstants(api)
	if err != nil {
		return err
	}
	translation, err := readTranslation(filepath.Join(words, "conditions.ru.yaml"), groups)
	if err != nil {
		return err
	}
	pages["CONDITIONS.md"] = conditionsPage(english, groups)
	pages["CONDITIONS.ru.md"] = conditionsPage(russian, translation)
	return writePages(to, pages)
}

// kindPages makes the pages of all kinds of the module.
func kindPages(crds string, english, russian language) (map[string]string, error) {
	files, err := filepath.Glob(filepath.Join(crds, "*.yaml"))
	if err != nil {
		return nil, err
	}
	pages := map[string]string{}
	for _, file := range files {
		if strings.HasPrefix(filepath.Base(file), twinPrefix) {
			continue
		}
		definition, err := readDefinition(file)
		if err != nil {
			return nil, err
		}
		if definition.Spec.Group != group {
			continue
		}
		twin, err := readDefinition(filepath.Join(crds, twinPrefix+filepath.Base(file)))
		if err != nil {
			return nil, err
		}
		if err := errors.Join(definition.check(), twin.check()); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		name := strings.ToUpper(definition.Spec.Names.Kind)
		pages[name+".md"] = definition.page(english, nil)
		pages[name+".ru.md"] = definition.page(russian, twin)
	}
	if len(pages) == 0 {
		return nil, fmt.Errorf("-crds: no kind of %s in %q", group, crds)
	}
	return pages, nil
}

// writePages replaces everything in a directory, so that the page of a kind that is gone goes, too.
func writePages(to string, pages map[string]string) error {
	if err := os.RemoveAll(to); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := os.MkdirAll(to, 0o755); err != nil {
		return err
	}
	for name, page := range pages {
		if err := os.WriteFile(filepath.Join(to, name), []byte(page), 0o644); err != nil {
			return err
		}
	}
	return nil
}
