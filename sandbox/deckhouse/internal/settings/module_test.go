// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package settings

import (
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/conversion"
)

// moduleDir is the module that the sandbox runs.
const moduleDir = "../../../.."

// ownModule judges with the module's own schema and conversions.
func ownModule(t *testing.T) Module {
	t.Helper()
	schema, err := LoadSchema("virtualization", moduleDir)
	if err != nil {
		t.Fatal(err)
	}
	converter, err := conversion.Load(filepath.Join(moduleDir, "openapi/conversions"))
	if err != nil {
		t.Fatal(err)
	}
	return Module{Converter: converter, Schema: schema}
}

func parse(t *testing.T, text string) map[string]any {
	t.Helper()
	var parsed map[string]any
	if err := yaml.Unmarshal([]byte(text), &parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

// A ModuleConfig that was written for version 1 goes on working, and runs with settings of the newest version.
func TestModuleConfigOfVersionOne(t *testing.T) {
	const old = `
vmipCIDRs: [10.66.10.0/24]
dvcr: {storage: {type: PersistentVolumeClaim, persistentVolumeClaim: {size: 60G}}}
virtualImages: {storageClassName: cold}
logLevel: debug`
	const converted = `
virtualMachineCIDRs: [10.66.10.0/24]
dvcr: {storage: {type: PersistentVolumeClaim, persistentVolumeClaim: {size: 60G}}}
virtualImages: {defaultStorageClassName: cold}
logLevel: debug`
	module := ownModule(t)
	got := module.Judge(Request{Enabled: true, Version: 1, Settings: parse(t, old)}, Accepted{}, platform)
	if got.Refusal != "" || !reflect.DeepEqual(got.Accepted.Settings, parse(t, converted)) {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(got.Message, "Settings of version 1 are converted to version 2") {
		t.Errorf("the author is told %q", got.Message)
	}
	// Under the newest version the old names are mistakes.
	got = module.Judge(Request{Enabled: true, Version: 2, Settings: parse(t, old)}, Accepted{}, platform)
	if got.Refusal != SettingsRefused || !strings.Contains(got.Message, "spec.settings.vmipCIDRs: is not a known setting") {
		t.Errorf("got %+v", got)
	}
}

// What the schema or the module's own check refuses leaves what ran before, and says why.
func TestWrongSettingsOfTheModuleChangeNothing(t *testing.T) {
	good := parse(t, "{virtualMachineCIDRs: [10.66.10.0/24], dvcr: {storage: {persistentVolumeClaim: {size: 60G}}}}")
	last := Accepted{Enabled: true, Settings: good}
	module := ownModule(t)
	module.Check = func(settings map[string]any) error {
		if reflect.DeepEqual(settings, good) {
			return errors.New("what runs already is asked about")
		}
		return errors.New("dvcr.storage.persistentVolumeClaim.size: it can't shrink")
	}
	for name, test := range map[string]struct{ settings, want string }{
		"by the schema": {"{virtualMachineCIDRs: [], dvcr: {storage: {persistentVolumeClaim: {size: 60G}}}}", "spec.settings.virtualMachineCIDRs: should have at least 1 items"},
		"by the check":  {"{virtualMachineCIDRs: [10.66.10.0/24], dvcr: {storage: {persistentVolumeClaim: {size: 1G}}}}", "dvcr.storage.persistentVolumeClaim.size: it can't shrink"},
	} {
		got := module.Judge(Request{Enabled: true, Version: 2, Settings: parse(t, test.settings)}, last, platform)
		if !got.Accepted.Equal(last) || got.Refusal != SettingsRefused || !strings.Contains(got.Message, test.want) ||
			!strings.Contains(got.Message, "The module keeps running with the settings it had") {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	if got := module.Judge(Request{Enabled: true, Version: 2, Settings: good}, last, platform); got.Refusal != "" {
		t.Errorf("got %+v", got)
	}
}

// The cases that Deckhouse's own tools read, judged the way Deckhouse judges a ModuleConfig: with defaults filled in.
func TestCasesOfTheModule(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join(moduleDir, "openapi/openapi-case-tests.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var cases struct {
		Positive, Negative struct {
			ConfigValues []map[string]any `json:"configValues"`
		}
	}
	if err := yaml.Unmarshal(raw, &cases); err != nil {
		t.Fatal(err)
	}
	if len(cases.Positive.ConfigValues) < 5 || len(cases.Negative.ConfigValues) < 20 {
		t.Fatalf("only %d and %d cases", len(cases.Positive.ConfigValues), len(cases.Negative.ConfigValues))
	}
	schema := ownModule(t).Schema
	for _, settings := range cases.Positive.ConfigValues {
		if err := schema.Check(settings); err != nil {
			t.Errorf("%v: %v", settings, err)
		}
	}
	for _, settings := range cases.Negative.ConfigValues {
		if err := schema.Check(settings); err == nil {
			t.Errorf("%v was accepted", settings)
		}
	}
}
