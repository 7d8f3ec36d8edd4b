// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/module-sdk/pkg"
	"github.com/deckhouse/module-sdk/pkg/registry"
)

var registers = regexp.MustCompile(`(?m)^var _ = \w+\.Register`)

// hookFolders are the packages that register a hook when they are imported.
func hookFolders(t *testing.T) []string {
	t.Helper()
	files, err := filepath.Glob("../../*/*.go")
	if err != nil {
		t.Fatal(err)
	}
	var folders []string
	for _, file := range files {
		content, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			t.Fatal(err)
		}
		if registers.Match(content) {
			folders = append(folders, filepath.Base(filepath.Dir(file)))
		}
	}
	slices.Sort(folders)
	return slices.Compact(folders)
}

// A hook that main does not import is compiled, tested, and never run.
func TestEveryHookIsImported(t *testing.T) {
	source, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	folders := hookFolders(t)
	if len(folders) < 7 {
		t.Fatalf("found only the hooks %v", folders)
	}
	for _, folder := range folders {
		if !strings.Contains(string(source), `"github.com/deckhouse/virtualization/hooks/`+folder+`"`) {
			t.Errorf("main.go does not import hooks/%s", folder)
		}
	}
	if got := len(registry.Registry().ModuleHooks()); got < len(folders) {
		t.Errorf("%d hooks are registered by %d folders", got, len(folders))
	}
}

func configs() []pkg.HookConfig {
	var all []pkg.HookConfig
	for _, hook := range registry.Registry().ModuleHooks() {
		all = append(all, hook.Config)
	}
	return all
}

// All hooks run in the module's own queue, so that none of them holds up those of
// other modules; a hook without anything that starts it never runs.
func TestHooksAreStartedInTheModulesQueue(t *testing.T) {
	for _, config := range configs() {
		if config.Queue != "modules/virtualization" {
			t.Errorf("%s runs in the queue %q", config.Metadata.Path, config.Queue)
		}
		if config.OnBeforeHelm == nil && config.OnAfterHelm == nil && config.OnAfterDeleteHelm == nil && config.OnStartup == nil && len(config.Kubernetes) == 0 && len(config.Schedule) == 0 {
			t.Errorf("%s is never started", config.Metadata.Path)
		}
	}
}

// Subscriptions of one hook are told apart by their names, and each one that the
// module's namespace is enough for watches nothing else.
func TestSubscriptions(t *testing.T) {
	for _, config := range configs() {
		seen := map[string]bool{}
		for _, binding := range config.Kubernetes {
			if binding.Name == "" || seen[binding.Name] {
				t.Errorf("%s: a subscription is called %q", config.Metadata.Path, binding.Name)
			}
			seen[binding.Name] = true
			// Of Secrets whose names are a setting, no key may be kept.
			if binding.Kind == "Secret" && (binding.NamespaceSelector == nil || binding.NameSelector == nil && binding.JqFilter != `{"crt": .data."tls.crt"}`) {
				t.Errorf("%s: %s reads Secrets of every name or namespace", config.Metadata.Path, binding.Name)
			}
			if binding.JqFilter == "" {
				t.Errorf("%s: %s keeps whole objects in memory", config.Metadata.Path, binding.Name)
			}
		}
	}
}

var internalPath = regexp.MustCompile(`"virtualization\.(internal\.[A-Za-z.]+)"`)

// A path that the schema of the values does not know is refused when a hook sets
// it, and then the whole module stands still.
func TestPathsOfTheSettingsAreInTheSchema(t *testing.T) {
	source, err := os.ReadFile("../../settings/settings.go")
	if err != nil {
		t.Fatal(err)
	}
	schema, err := os.ReadFile("../../../openapi/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	paths := internalPath.FindAllStringSubmatch(string(source), -1)
	if len(paths) < 8 {
		t.Fatalf("found only %d paths in settings.go", len(paths))
	}
	for _, path := range paths {
		for _, key := range strings.Split(path[1], ".") {
			if !regexp.MustCompile(`(?m)^\s+` + key + `:`).Match(schema) {
				t.Errorf("openapi/values.yaml has no %s for %s", key, path[1])
			}
		}
	}
}
