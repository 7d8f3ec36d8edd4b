// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package definition reads a module's module.yaml and answers what it asks of
// the platform, in words that say what to do about it.
package definition

import (
	"fmt"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"
)

// FileName is the file at the top of a module's package.
const FileName = "module.yaml"

// Definition is the part of module.yaml that the platform acts on.
type Definition struct {
	Name         string       `json:"name"`
	Namespace    string       `json:"namespace"`
	Stage        string       `json:"stage"`
	Requirements Requirements `json:"requirements"`
	Disable      Disable      `json:"disable"`
}

// Requirements are version constraints on what surrounds the module.
type Requirements struct {
	Deckhouse  string            `json:"deckhouse"`
	Kubernetes string            `json:"kubernetes"`
	Modules    map[string]string `json:"modules"`
}

// Disable tells whether switching the module off needs a confirmation.
type Disable struct {
	Confirmation bool              `json:"confirmation"`
	Message      string            `json:"message"`
	Messages     map[string]string `json:"messages"`
}

// Warning is the text shown to whoever disables the module without confirming.
func (d Disable) Warning() string {
	if text := d.Messages["en"]; text != "" {
		return text
	}
	return d.Message
}

// Load reads module.yaml from the directory of a module.
func Load(moduleDir string) (Definition, error) {
	path := filepath.Join(moduleDir, FileName)
	raw, err := os.ReadFile(path)
	if err != nil {
		return Definition{}, fmt.Errorf("read the module's definition: %w", err)
	}
	return Parse(raw)
}

// Parse reads the text of a module.yaml.
func Parse(raw []byte) (Definition, error) {
	var definition Definition
	if err := yaml.Unmarshal(raw, &definition); err != nil {
		return Definition{}, fmt.Errorf("parse %s: %w", FileName, err)
	}
	if definition.Name == "" {
		return Definition{}, fmt.Errorf("%s has no name: set it to the module's name", FileName)
	}
	return definition, nil
}
