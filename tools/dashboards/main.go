// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command dashboards writes the module's Grafana dashboards from descriptions that hold nothing but what differs from
// panel to panel: Grafana's own format is ten times as long, and numbers every panel and its place.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"go.yaml.in/yaml/v3"
)

func main() {
	from := flag.String("from", "", "directory with the descriptions, one file for each dashboard")
	to := flag.String("to", "", "directory to write")
	flag.Parse()
	if err := run(*from, *to); err != nil {
		fmt.Fprintln(os.Stderr, "dashboards:", err)
		os.Exit(1)
	}
}

func run(from, to string) error {
	files, err := filepath.Glob(filepath.Join(from, "*.yaml"))
	if err != nil {
		return err
	}
	if len(files) == 0 {
		return fmt.Errorf("-from: no descriptions in %q", from)
	}
	for _, file := range files {
		content, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			return err
		}
		written, err := convert(content)
		if err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		name := strings.TrimSuffix(filepath.Base(file), ".yaml") + ".json"
		if err := os.WriteFile(filepath.Join(to, name), written, 0o644); err != nil { //nolint:gosec // Part of the package, read by everybody.
			return err
		}
	}
	return nil
}

// convert makes a dashboard of its description. A word that means nothing is an error.
func convert(content []byte) ([]byte, error) {
	var described description
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	decoder.KnownFields(true)
	if err := decoder.Decode(&described); err != nil {
		return nil, err
	}
	made, err := described.dashboard()
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	// Expressions stay readable: they are full of < and >.
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", " ")
	err = encoder.Encode(made)
	return out.Bytes(), err
}
