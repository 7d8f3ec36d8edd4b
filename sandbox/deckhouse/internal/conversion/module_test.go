// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"sigs.k8s.io/yaml"
)

// moduleSchemas are the module's own, which the sandbox runs.
const moduleSchemas = "../../../../openapi"

func moduleConverter(t *testing.T) *Converter {
	t.Helper()
	converter, err := Load(filepath.Join(moduleSchemas, "conversions"))
	if err != nil {
		t.Fatal(err)
	}
	return converter
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var settings map[string]any
	if err := yaml.Unmarshal([]byte(text), &settings); err != nil {
		t.Fatal(err)
	}
	return settings
}

// Settings that were written once go on working, whatever of them is there.
func TestModulesSettingsOfVersionOne(t *testing.T) {
	tests := []struct{ name, settings, want string }{
		{"nothing that changed",
			"{virtualMachineCIDRs: [10.66.10.0/24], dvcr: {storage: {persistentVolumeClaim: {size: 10Gi}}}, logLevel: debug}",
			"{virtualMachineCIDRs: [10.66.10.0/24], dvcr: {storage: {persistentVolumeClaim: {size: 10Gi}}}, logLevel: debug}"},
		{"ranges under their first name", "{vmipCIDRs: [10.66.10.0/24]}", "{virtualMachineCIDRs: [10.66.10.0/24]}"},
		{"ranges under both names", "{vmipCIDRs: [10.1.0.0/16], virtualMachineCIDRs: [10.66.10.0/24]}", "{virtualMachineCIDRs: [10.66.10.0/24]}"},
		{"class of images", "{virtualImages: {storageClassName: cold}}", "{virtualImages: {defaultStorageClassName: cold}}"},
		{"class of images under both names",
			"{virtualImages: {storageClassName: cold, defaultStorageClassName: warm, allowedStorageClassSelector: {matchNames: [warm]}}}",
			"{virtualImages: {defaultStorageClassName: warm, allowedStorageClassSelector: {matchNames: [warm]}}}"},
		{"class of disks stays", "{virtualDisks: {defaultStorageClassName: fast}}", "{virtualDisks: {defaultStorageClassName: fast}}"},
		// What is no object is the schema's to refuse, which names the field.
		{"images that are no object", "{virtualImages: cold}", "{virtualImages: cold}"},
		{"nothing at all", "{}", "{}"},
	}
	converter := moduleConverter(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := converter.ToLatest(1, parse(t, test.settings))
			if err != nil {
				t.Fatal(err)
			}
			if want := parse(t, test.want); !reflect.DeepEqual(got, want) {
				t.Errorf("got %v, want %v", got, want)
			}
			again, err := converter.ToLatest(converter.Latest(), got)
			if err != nil || !reflect.DeepEqual(again, got) {
				t.Errorf("of the newest version it becomes %v, %v", again, err)
			}
		})
	}
}

// Deckhouse takes the newest version from the schema, and how to get there from the conversions; both descriptions are
// shown to whoever still has an old one.
func TestModulesVersions(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(moduleSchemas, "config-values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	converter := moduleConverter(t)
	if version := parse(t, string(raw))["x-config-version"]; version != float64(converter.Latest()) {
		t.Errorf("the schema is of version %v, the conversions lead to %d", version, converter.Latest())
	}
	files, err := filepath.Glob(filepath.Join(moduleSchemas, "conversions", "*"))
	if err != nil || len(files) != converter.Latest()-1 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		raw, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			t.Fatal(err)
		}
		description, _ := parse(t, string(raw))["description"].(map[string]any)
		for _, language := range []string{"en", "ru"} {
			if text, _ := description[language].(string); text == "" {
				t.Errorf("%s has no description in %s", file, language)
			}
		}
	}
}
