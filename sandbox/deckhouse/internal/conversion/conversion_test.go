// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package conversion

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

func load(t *testing.T, files map[string]string) (*Converter, error) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return Load(dir)
}

var twoSteps = map[string]string{
	"v2.yaml": "version: 2\nconversions:\n- '.cidrs = [.cidr]'\n- 'del(.cidr)'\n",
	"v3.yaml": "version: 3\nconversions:\n- 'if .log then .logLevel = .log | del(.log) else . end'\n",
}

func TestToLatest(t *testing.T) {
	converter, err := load(t, twoSteps)
	if err != nil {
		t.Fatal(err)
	}
	if converter.Latest() != 3 {
		t.Fatalf("latest is %d", converter.Latest())
	}
	tests := []struct {
		name     string
		from     int
		settings map[string]any
		want     map[string]any
	}{
		{"both steps", 1, map[string]any{"cidr": "10.0.0.0/8", "log": "debug"}, map[string]any{"cidrs": []any{"10.0.0.0/8"}, "logLevel": "debug"}},
		{"the last step", 2, map[string]any{"cidrs": []any{"10.0.0.0/8"}}, map[string]any{"cidrs": []any{"10.0.0.0/8"}}},
		{"newest already", 3, map[string]any{"log": "kept"}, map[string]any{"log": "kept"}},
		{"numbers as Kubernetes reads them", 1, map[string]any{"cidr": int64(7)}, map[string]any{"cidrs": []any{float64(7)}}},
		{"no settings", 3, nil, nil},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := converter.ToLatest(test.from, test.settings)
			if err != nil {
				t.Fatal(err)
			}
			if !reflect.DeepEqual(got, test.want) {
				t.Errorf("got %v, want %v", got, test.want)
			}
		})
	}
}

func TestToLatestLeavesItsArgumentAlone(t *testing.T) {
	converter, err := load(t, twoSteps)
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]any{"cidr": "10.0.0.0/8"}
	if _, err := converter.ToLatest(1, settings); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(settings, map[string]any{"cidr": "10.0.0.0/8"}) {
		t.Errorf("argument became %v", settings)
	}
}

func TestToLatestRefuses(t *testing.T) {
	converter, err := load(t, map[string]string{"v2.yaml": "version: 2\nconversions: ['if .fail then error(\"no\") elif .list then [1] elif .null then null else . end']\n"})
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name     string
		from     int
		settings map[string]any
		want     string
	}{
		{"a version from the future", 9, map[string]any{}, "spec.version: 9 is not known: use a version from 1 to 2"},
		{"version zero", 0, map[string]any{}, "spec.version: 0 is not known"},
		{"a failing program", 1, map[string]any{"fail": true}, "spec.settings: can't be converted to version 2"},
		{"not an object", 1, map[string]any{"list": true}, "gave []interface {} instead of an object"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			if _, err := converter.ToLatest(test.from, test.settings); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
	if got, err := converter.ToLatest(1, map[string]any{"null": true}); err != nil || len(got) != 0 {
		t.Errorf("null: got %v, %v", got, err)
	}
}

func TestLoad(t *testing.T) {
	none, err := Load(filepath.Join(t.TempDir(), "absent"))
	if err != nil || none.Latest() != 1 {
		t.Errorf("without a directory: %v, %v", none, err)
	}
	tests := map[string]struct {
		files map[string]string
		want  string
	}{
		"gap":         {map[string]string{"v3.yaml": "version: 3\nconversions: ['.']\n"}, "conversion to version 2 is missing: add openapi/conversions/v2.yaml"},
		"bad jq":      {map[string]string{"v2.yaml": "version: 2\nconversions: ['.a |']\n"}, "conversion v2.yaml: jq"},
		"unknown jq":  {map[string]string{"v2.yaml": "version: 2\nconversions: ['nosuch(1)']\n"}, "conversion v2.yaml: jq"},
		"bad version": {map[string]string{"v1.yaml": "version: 1\nconversions: ['.']\n"}, "the first conversion makes version 2"},
		"no yaml":     {map[string]string{"v2.yaml": "version: ["}, "conversion v2.yaml"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if _, err := load(t, test.files); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q in it", err, test.want)
			}
		})
	}
}
