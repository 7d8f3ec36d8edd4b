// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const (
	// ConfigFile is the name of the configuration inside its folder.
	ConfigFile = "prometheus.yml"
	rulesDir   = "rules"
	// interval is between two scrapes: machines of tests live for a minute.
	interval = "15s"
)

// Files are the files of a configuration by their names.
type Files map[string][]byte

// Render makes the configuration of Prometheus of the cluster's objects. What it cannot
// use it leaves out, and says so in the error: the rest is scraped all the same.
func Render(monitors, rules []*unstructured.Unstructured, secrets Secrets) (Files, error) {
	made := config{
		Global:  map[string]string{"scrape_interval": interval, "evaluation_interval": interval},
		Rules:   []string{rulesDir + "/*.yaml"},
		Scrapes: ofPlatform(),
	}
	var errs []error
	for _, monitor := range monitors {
		scrapes, err := scrapesOf(monitor, secrets)
		made.Scrapes = append(made.Scrapes, scrapes...)
		errs = append(errs, err)
	}
	files := Files{}
	for _, rule := range rules {
		groups, found, err := unstructured.NestedSlice(rule.Object, "spec", "groups")
		if err != nil || !found {
			errs = append(errs, fmt.Errorf("PrometheusRule %s/%s has no groups", rule.GetNamespace(), rule.GetName()))
			continue
		}
		name := filepath.Join(rulesDir, rule.GetNamespace()+"-"+rule.GetName()+".yaml")
		files[name], err = yaml.Marshal(map[string]any{"groups": groups})
		errs = append(errs, err)
	}
	content, err := yaml.Marshal(made)
	files[ConfigFile] = content
	return files, errors.Join(append(errs, err)...)
}

// Write makes a folder hold these files and no other rules. It tells whether anything
// changed.
func (f Files) Write(dir string) (changed bool, err error) {
	if err := os.MkdirAll(filepath.Join(dir, rulesDir), 0o755); err != nil {
		return false, err
	}
	there, err := filepath.Glob(filepath.Join(dir, rulesDir, "*.yaml"))
	if err != nil {
		return false, err
	}
	for _, path := range there {
		name := filepath.Join(rulesDir, filepath.Base(path))
		if _, wanted := f[name]; !wanted {
			if err := os.Remove(path); err != nil {
				return changed, err
			}
			changed = true
		}
	}
	for _, name := range slices.Sorted(maps.Keys(f)) {
		path := filepath.Join(dir, name)
		if content, err := os.ReadFile(path); err == nil && string(content) == string(f[name]) {
			continue
		}
		// It may hold a token.
		if err := os.WriteFile(path, f[name], 0o600); err != nil {
			return changed, err
		}
		changed = true
	}
	return changed, nil
}
