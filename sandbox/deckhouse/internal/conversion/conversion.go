// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package conversion brings a module's settings from the version they were
// written in to the newest one, by the jq steps in openapi/conversions.
package conversion

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/itchyny/gojq"
	"sigs.k8s.io/yaml"
)

// Converter holds the steps of one module. The zero value knows version 1 only.
type Converter struct {
	// steps maps a version to the program that makes it from the one before.
	steps map[int]*gojq.Code
}

type step struct {
	Version     int      `json:"version"`
	Conversions []string `json:"conversions"`
}

// Load reads every vN.yaml of a directory; a module without the directory has
// had one version only.
func Load(dir string) (*Converter, error) {
	paths, err := filepath.Glob(filepath.Join(dir, "v*.yaml"))
	if err != nil {
		return nil, fmt.Errorf("list conversions: %w", err)
	}
	converter := &Converter{steps: map[int]*gojq.Code{}}
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read conversion: %w", err)
		}
		if err := converter.add(raw); err != nil {
			return nil, fmt.Errorf("conversion %s: %w", filepath.Base(path), err)
		}
	}
	return converter, converter.checkSequence()
}

func (c *Converter) add(raw []byte) error {
	var read step
	if err := yaml.Unmarshal(raw, &read); err != nil {
		return err
	}
	if read.Version < 2 {
		return fmt.Errorf("version is %d: the first conversion makes version 2", read.Version)
	}
	query, err := gojq.Parse(strings.Join(read.Conversions, " | "))
	if err != nil {
		return fmt.Errorf("jq: %w", err)
	}
	code, err := gojq.Compile(query)
	if err != nil {
		return fmt.Errorf("jq: %w", err)
	}
	c.steps[read.Version] = code
	return nil
}

// checkSequence finds a missing version at start instead of at somebody's apply.
func (c *Converter) checkSequence() error {
	for version := 2; version <= c.Latest(); version++ {
		if c.steps[version] == nil {
			return fmt.Errorf("conversion to version %d is missing: add openapi/conversions/v%d.yaml", version, version)
		}
	}
	return nil
}

// Latest is the newest version of the settings.
func (c *Converter) Latest() int {
	latest := 1
	for version := range c.steps {
		latest = max(latest, version)
	}
	return latest
}

// ToLatest converts settings written in the version from. It does not change its argument.
func (c *Converter) ToLatest(from int, settings map[string]any) (map[string]any, error) {
	if from < 1 || from > c.Latest() {
		return nil, fmt.Errorf("spec.version: %d is not known: use a version from 1 to %d", from, c.Latest())
	}
	converted, err := plain(settings)
	if err != nil {
		return nil, err
	}
	for version := from + 1; version <= c.Latest(); version++ {
		result, _ := c.steps[version].Run(converted).Next()
		switch value := result.(type) {
		case map[string]any:
			converted = value
		case nil:
			converted = map[string]any{}
		case error:
			return nil, fmt.Errorf("spec.settings: can't be converted to version %d: %w", version, value)
		default:
			return nil, fmt.Errorf("spec.settings: conversion to version %d gave %T instead of an object", version, value)
		}
	}
	return plain(converted)
}

// plain copies settings into the types of encoding/json: jq programs neither
// take the int64 of the Kubernetes libraries nor give what those accept.
func plain(settings map[string]any) (map[string]any, error) {
	raw, err := json.Marshal(settings)
	if err != nil {
		return nil, fmt.Errorf("spec.settings: %w", err)
	}
	var copied map[string]any
	if err := json.Unmarshal(raw, &copied); err != nil {
		return nil, fmt.Errorf("spec.settings: %w", err)
	}
	return copied, nil
}
