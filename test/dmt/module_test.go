// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dmt

import (
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// project is one entry of oss.yaml, with all the fields that the linter lets it have
// and this module needs. That the versions are those that are shipped is in tools/sbom.
type project struct {
	ID          string `json:"id"`
	Name        string `json:"name"`
	Description string `json:"description"`
	Link        string `json:"link"`
	License     string `json:"license"`
	Version     string `json:"version"`
}

func TestSoftwareOfOthersIsDescribed(t *testing.T) {
	var projects []project
	if err := yaml.UnmarshalStrict([]byte(read(t, "oss.yaml")), &projects); err != nil || len(projects) == 0 {
		t.Fatalf("%d projects, %v", len(projects), err)
	}
	version := regexp.MustCompile(`^(0|[1-9]\d*)(\.(0|[1-9]\d*)){0,2}$`)
	seen := map[string]bool{}
	for _, p := range projects {
		link, err := url.Parse(p.Link)
		if p.ID == "" || p.Name == "" || p.Description == "" || p.License == "" || err != nil || link.Host == "" {
			t.Errorf("%+v, %v", p, err)
		}
		if !version.MatchString(p.Version) {
			t.Errorf("%s: %q is no semantic version", p.ID, p.Version)
		}
		if seen[p.ID] {
			t.Errorf("%s is there twice", p.ID)
		}
		seen[p.ID] = true
	}
}

// What is written under an old name goes through every version in between, and the
// user is told in his language what became of it.
func TestConversionsAreWithoutGaps(t *testing.T) {
	var settings struct {
		Version int `json:"x-config-version"`
	}
	parse(t, "openapi/config-values.yaml", &settings)
	entries, err := os.ReadDir(filepath.Join(root, "openapi/conversions"))
	if err != nil || len(entries) != settings.Version-1 {
		t.Fatalf("%d conversions to version %d, %v", len(entries), settings.Version, err)
	}
	for version := 2; version <= settings.Version; version++ {
		var conversion struct {
			Version     int               `json:"version"`
			Description map[string]string `json:"description"`
		}
		parse(t, fmt.Sprintf("openapi/conversions/v%d.yaml", version), &conversion)
		if conversion.Version != version || conversion.Description["en"] == "" || conversion.Description["ru"] == "" {
			t.Errorf("version %d: %+v", version, conversion)
		}
	}
}

// The platform reads some keys of schemas in one place and passes over them, or takes
// them for its own, in another.
func TestKeysOfSchemas(t *testing.T) {
	for _, file := range schemas(t) {
		text := read(t, file)
		// A twin is read by nobody but the site, which cannot be built from a broken one.
		var schema map[string]any
		if err := yaml.UnmarshalStrict([]byte(text), &schema); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if strings.HasPrefix(file, "openapi/") && strings.Contains(text, "x-kubernetes-validations") {
			t.Errorf("%s: settings are checked by x-deckhouse-validations only", file)
		}
		// The definitions of the engine are as released.
		if !strings.Contains(file, ".kubevirt.io.") && markedAsDeprecated(schema, false) {
			t.Errorf("%s: the site knows x-doc-deprecated only", file)
		}
		// Without a value of its own, a module follows what the cluster says of high availability.
		properties, _ := schema["properties"].(map[string]any)
		availability, _ := properties["highAvailability"].(map[string]any)
		if _, set := availability["default"]; set {
			t.Errorf("%s: highAvailability has a default", file)
		}
	}
}

// markedAsDeprecated finds fields that the schema of a definition marks; versions of a
// definition may be marked.
func markedAsDeprecated(node any, inSchema bool) bool {
	switch value := node.(type) {
	case map[string]any:
		for name, child := range value {
			if inSchema && name == "deprecated" || markedAsDeprecated(child, inSchema || name == "openAPIV3Schema") {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(value, func(child any) bool { return markedAsDeprecated(child, inSchema) })
	}
	return false
}

// Whether the module is on is decided by the cluster alone; the script for that is a
// thing of the past, as are patches that nobody finds beside the image they are for.
func TestNothingDeprecatedIsInTheModule(t *testing.T) {
	if _, err := os.Stat(filepath.Join(root, "enabled")); err == nil {
		t.Error("the module has a script that enables it")
	}
	if impact := excluded(t).Global.Settings.Module.Rules.LegacyReleaseFile.Impact; impact != "ignored" {
		t.Errorf("release.yaml weighs %q", impact)
	}
	place := regexp.MustCompile(`^images/[\w/.-]*/patches/(.*/)?\d{3}-[^/]*\.patch$`)
	for _, file := range files(t, ".patch", ".yaml") {
		if strings.HasSuffix(file, ".patch") && !place.MatchString(file) {
			t.Errorf("%s is not images/NAME/patches/NNN-WHAT.patch", file)
		}
	}
}

// A pattern with a space, or one as wide as everything, is a slip in a list like this.
func TestPatternsOfHelmIgnore(t *testing.T) {
	for _, pattern := range strings.Split(read(t, ".helmignore"), "\n") {
		if strings.HasPrefix(pattern, "#") {
			continue
		}
		if strings.Contains(pattern, " ") || pattern == "*" || pattern == "**" || strings.Contains(pattern, "templates/") || strings.Contains(pattern, "Chart.yaml") {
			t.Errorf("the pattern %q", pattern)
		}
	}
}
