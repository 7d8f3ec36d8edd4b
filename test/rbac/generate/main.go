// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command generate writes the table of rights into the administrator's guides of a folder.
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/deckhouse/virtualization/test/rbac"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: generate DOCS")
		os.Exit(2)
	}
	if err := run(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "writing the table of rights:", err)
		os.Exit(1)
	}
}

func run(docs string) error {
	rights, err := rbac.Load()
	if err != nil {
		return err
	}
	for name, words := range map[string]rbac.Words{"ADMIN_GUIDE.md": rbac.English, "ADMIN_GUIDE.ru.md": rbac.Russian} {
		path := filepath.Join(docs, name)
		guide, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			return err
		}
		written, err := rbac.Insert(string(guide), rights.Markdown(words))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if written == string(guide) {
			continue
		}
		if err := os.WriteFile(path, []byte(written), 0o644); err != nil { //nolint:gosec // a document, for everybody to read
			return err
		}
	}
	return nil
}
