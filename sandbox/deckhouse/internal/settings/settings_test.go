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

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/conversion"
	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/definition"
)

const schemaText = `
type: object
required: [cidrs]
additionalProperties: false
properties:
  cidrs:
    type: array
    minItems: 1
    items: {type: string, pattern: '^[0-9.]+/[0-9]+$'}
  logLevel:
    type: string
    enum: [debug, info]
    default: info
  storage:
    type: object
    additionalProperties: false
    properties:
      size: {type: string}
`

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func newModule(t *testing.T) Module {
	t.Helper()
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "openapi/config-values.yaml"), schemaText)
	writeFile(t, filepath.Join(dir, "openapi/conversions/v2.yaml"), "version: 2\nconversions: ['if .cidr then .cidrs = [.cidr] | del(.cidr) else . end']\n")
	schema, err := LoadSchema("my-module", dir)
	if err != nil {
		t.Fatal(err)
	}
	converter, err := conversion.Load(filepath.Join(dir, "openapi/conversions"))
	if err != nil {
		t.Fatal(err)
	}
	return Module{
		Definition: definition.Definition{
			Name:         "my-module",
			Requirements: definition.Requirements{Modules: map[string]string{"cni-cilium": ">= 0.0.0"}},
			Disable:      definition.Disable{Confirmation: true, Message: "Machines stop."},
		},
		Converter: converter,
		Schema:    schema,
	}
}

func object(pairs ...any) map[string]any {
	made := map[string]any{}
	for i := 0; i < len(pairs); i += 2 {
		made[pairs[i].(string)] = pairs[i+1]
	}
	return made
}

var (
	cidrs    = []any{"10.66.10.0/24"}
	platform = definition.Platform{Modules: map[string]string{"cni-cilium": "0.0.0"}}
	running  = Accepted{Enabled: true, Settings: object("cidrs", cidrs)}
)

func TestJudge(t *testing.T) {
	tests := []struct {
		name     string
		request  Request
		last     Accepted
		platform definition.Platform
		want     Verdict
	}{
		{
			name:    "enabling with good settings",
			request: Request{Enabled: true, Version: 2, Settings: object("cidrs", cidrs, "logLevel", "debug")},
			want:    Verdict{Accepted: Accepted{Enabled: true, Settings: object("cidrs", cidrs, "logLevel", "debug")}},
		},
		{
			name:    "old settings are converted, and the user learns it",
			request: Request{Enabled: true, Version: 1, Settings: object("cidr", "10.66.10.0/24")},
			want: Verdict{
				Accepted: running,
				Message:  "Settings of version 1 are converted to version 2, the newest one.",
			},
		},
		{
			name:    "maintenance is passed on",
			request: Request{Enabled: true, Version: 2, Settings: object("cidrs", cidrs), Maintenance: "NoResourceReconciliation"},
			last:    running,
			want: Verdict{Accepted: Accepted{
				Enabled: true, Settings: object("cidrs", cidrs), Maintenance: "NoResourceReconciliation",
			}},
		},
		{
			name:    "a typing error keeps what runs",
			request: Request{Enabled: true, Version: 2, Settings: object("cidrs", cidrs, "logLevl", "debug")},
			last:    running,
			want: Verdict{
				Accepted: running,
				Refusal:  "SettingsRefused",
				Message: "Settings refused: spec.settings.logLevl: is not a known setting: check its spelling. " +
					"The module keeps running with the settings it had; correct the field and apply again.",
			},
		},
		{
			name:    "a wrong value on a module that is off leaves it off",
			request: Request{Enabled: true, Version: 2, Settings: object("cidrs", []any{"x"})},
			want: Verdict{
				Refusal: "SettingsRefused",
				Message: "Settings refused: spec.settings.cidrs: should match '^[0-9.]+/[0-9]+$'. " +
					"The module stays off; correct the field and apply again.",
			},
		},
		{
			name:    "settings without a version",
			request: Request{Enabled: true, Settings: object("cidrs", cidrs)},
			want: Verdict{
				Refusal: "SettingsRefused",
				Message: "Settings refused: spec.version: is required beside spec.settings: set it to 2. " +
					"The module stays off; correct the field and apply again.",
			},
		},
		{
			name:    "required settings are required even where none are given",
			request: Request{Enabled: true},
			want: Verdict{
				Refusal: "SettingsRefused",
				Message: "Settings refused: spec.settings.cidrs: is required. " +
					"The module stays off; correct the field and apply again.",
			},
		},
		{
			name:     "a required module is missing",
			request:  Request{Enabled: true, Version: 2, Settings: object("cidrs", cidrs)},
			platform: definition.Platform{Modules: map[string]string{"prometheus": "0.0.0"}},
			want: Verdict{
				Refusal: "RequirementsNotMet",
				Message: "The module can't run here: module cni-cilium is not enabled: enable it (version >= 0.0.0)",
			},
		},
		{
			name: "disabling without confirmation",
			last: running,
			want: Verdict{
				Accepted: running,
				Refusal:  "DisablingNotConfirmed",
				Message: "The module keeps running. Machines stop. " +
					"To disable it all the same, annotate its ModuleConfig with modules.deckhouse.io/allow-disabling=true.",
			},
		},
		{
			name:    "disabling with confirmation",
			request: Request{DisablingAllowed: true},
			last:    running,
		},
		{
			name: "deleting after the confirmation was seen",
			last: Accepted{Enabled: true, DisablingAllowed: true},
		},
		{
			name: "a module that is off needs no confirmation",
		},
	}
	module := newModule(t)
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			seen := platform
			if test.platform.Modules != nil {
				seen = test.platform
			}
			got := module.Judge(test.request, test.last, seen)
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got  %+v\nwant %+v", got, test.want)
			}
		})
	}
}

func TestCheckNamesEveryField(t *testing.T) {
	err := newModule(t).Schema.Check(object("logLevel", "loud", "storage", object("sizes", "1G")))
	want := "spec.settings.cidrs: is required; " +
		"spec.settings.logLevel: should be one of [debug info]; " +
		"spec.settings.storage.sizes: is not a known setting: check its spelling"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestCheckLeavesDefaultsOut(t *testing.T) {
	settings := object("cidrs", cidrs)
	if err := newModule(t).Schema.Check(settings); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(settings, object("cidrs", cidrs)) {
		t.Errorf("argument became %v", settings)
	}
}

func TestLoadSchemaFails(t *testing.T) {
	if _, err := LoadSchema("my-module", t.TempDir()); err == nil || !strings.Contains(err.Error(), "config-values.yaml") {
		t.Errorf("missing: got %v", err)
	}
	dir := t.TempDir()
	writeFile(t, filepath.Join(dir, "openapi/config-values.yaml"), "type: [")
	if _, err := LoadSchema("my-module", dir); err == nil || !strings.Contains(err.Error(), "parse") {
		t.Errorf("broken: got %v", err)
	}
}

func TestEqual(t *testing.T) {
	if !running.Equal(Accepted{Enabled: true, Settings: object("cidrs", cidrs)}) {
		t.Error("equal states differ")
	}
	if running.Equal(Accepted{Enabled: true}) {
		t.Error("different states are equal")
	}
}

// The module's own check comes after the schema, and is not asked about what runs already: the module must go on when
// the check can't be made.
func TestJudgeAsksTheModule(t *testing.T) {
	var asked int
	module := newModule(t)
	module.Check = func(settings map[string]any) error {
		asked++
		return errors.New("cidrs: " + settings["cidrs"].([]any)[0].(string) + " is left out")
	}
	wish := func(settings map[string]any) Request { return Request{Enabled: true, Version: 2, Settings: settings} }
	for _, test := range []struct {
		name    string
		request Request
		last    Accepted
		refused string
		asked   int
	}{
		{name: "another range", request: wish(object("cidrs", []any{"10.0.0.0/8"})), last: running, refused: "cidrs: 10.0.0.0/8 is left out", asked: 1},
		{name: "the first range", request: wish(object("cidrs", cidrs)), refused: "cidrs: 10.66.10.0/24 is left out", asked: 1},
		{name: "what runs", request: wish(object("cidrs", cidrs)), last: running},
		{name: "no range at all", request: wish(object("cidrs", []any{"x"})), last: running, refused: "should match"},
		{name: "disabling", request: Request{DisablingAllowed: true}, last: running},
	} {
		asked = 0
		verdict := module.Judge(test.request, test.last, platform)
		if asked != test.asked || (verdict.Refusal != "") != (test.refused != "") || !strings.Contains(verdict.Message, test.refused) {
			t.Errorf("%s: asked %d times, got %+v", test.name, asked, verdict)
		}
		if verdict.Refusal != "" && !verdict.Accepted.Equal(test.last) {
			t.Errorf("%s: runs %+v", test.name, verdict.Accepted)
		}
	}
}
