// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
)

// minimal is a dashboard with one panel, whose description is put in.
func minimal(panel string) string {
	return "uid: u\ntitle: T\nlinks: {there: /d/x}\nrows:\n  - title: R\n    panels:\n      - " + panel + "\n"
}

// parsed makes a dashboard and reads it as Grafana would.
func parsed(t *testing.T, described string) map[string]any {
	t.Helper()
	written, err := convert([]byte(described))
	if err != nil {
		t.Fatal(err)
	}
	decoded := map[string]any{}
	if err := json.Unmarshal(written, &decoded); err != nil {
		t.Fatal(err)
	}
	return decoded
}

// part walks down to a part of a dashboard; the path has keys and indices.
func part(t *testing.T, from any, path ...any) any {
	t.Helper()
	for _, step := range path {
		switch step := step.(type) {
		case string:
			fields, ok := from.(map[string]any)
			if !ok {
				t.Fatalf("no field %s in %v", step, from)
			}
			from = fields[step]
		case int:
			list, ok := from.([]any)
			if !ok || step >= len(list) {
				t.Fatalf("no entry %d in %v", step, from)
			}
			from = list[step]
		}
	}
	return from
}

func TestPanels(t *testing.T) {
	tests := []struct {
		name, panel string
		path        []any
		want        any
	}{
		{"a graph unless said", `{title: P, queries: [{expr: up}]}`, []any{"type"}, "timeseries"},
		{"a graph asks for a range", `{title: P, queries: [{expr: up}]}`, []any{"targets", 0, "range"}, true},
		{"a number asks for now", `{title: P, kind: stat, queries: [{expr: up}]}`, []any{"targets", 0, "instant"}, true},
		{"a table asks for a table", `{title: P, kind: table, queries: [{expr: up}], columns: [{field: a, title: A}]}`, []any{"targets", 0, "format"}, "table"},
		{"the reader chooses where to ask", `{title: P, queries: [{expr: up}]}`, []any{"targets", 0, "datasource", "uid"}, "${ds_prometheus}"},
		{"the second query", `{title: P, queries: [{expr: up}, {expr: down, legend: L}]}`, []any{"targets", 1, "refId"}, "B"},
		{"a legend", `{title: P, queries: [{expr: up}, {expr: down, legend: L}]}`, []any{"targets", 1, "legendFormat"}, "L"},
		{"an expression over several lines", `{title: P, queries: [{expr: "  up\n"}]}`, []any{"targets", 0, "expr"}, "up"},
		{"what is less and more stays readable", `{title: P, queries: [{expr: "up < 1 > 0"}]}`, []any{"targets", 0, "expr"}, "up < 1 > 0"},
		{"a unit", `{title: P, unit: bytes, queries: [{expr: up}]}`, []any{"fieldConfig", "defaults", "unit"}, "bytes"},
		{"stacked", `{title: P, stacked: true, queries: [{expr: up}]}`, []any{"fieldConfig", "defaults", "custom", "stacking", "mode"}, "normal"},
		{"not stacked", `{title: P, queries: [{expr: up}]}`, []any{"fieldConfig", "defaults", "custom", "stacking"}, nil},
		{"a number is bad from", `{title: P, kind: stat, bad: 0.9, queries: [{expr: up}]}`, []any{"fieldConfig", "defaults", "thresholds", "steps", 1, "value"}, 0.9},
		{"a label instead of the number", `{title: P, kind: stat, shows: phase, queries: [{expr: up}]}`, []any{"options", "textMode"}, "name"},
		{"words for numbers", `{title: P, kind: stat, words: {"0": "no"}, queries: [{expr: up}]}`, []any{"fieldConfig", "defaults", "mappings", 0, "options", "0", "text"}, "no"},
		{"one query needs no merge", `{title: P, kind: table, queries: [{expr: up}], columns: [{field: a, title: A}]}`, []any{"transformations", 0, "id"}, "filterFieldsByName"},
		{"several are merged", `{title: P, kind: table, queries: [{expr: up}, {expr: up}], columns: [{field: a, title: A}]}`, []any{"transformations", 0, "id"}, "merge"},
		{"columns in order", `{title: P, kind: table, queries: [{expr: up}], columns: [{field: a, title: A}, {field: b, title: B}]}`, []any{"transformations", 1, "options", "indexByName", "b"}, 1.0},
		{"a column's title", `{title: P, kind: table, queries: [{expr: up}], columns: [{field: a, title: A}]}`, []any{"transformations", 1, "options", "renameByName", "a"}, "A"},
		{"a column's link", `{title: P, kind: table, queries: [{expr: up}], columns: [{field: a, title: A, link: there}]}`, []any{"fieldConfig", "overrides", 0, "properties", 0, "value", 0, "url"}, "/d/x"},
		{"a column's unit", `{title: P, kind: table, queries: [{expr: up}], columns: [{field: a, title: A, unit: s}]}`, []any{"fieldConfig", "overrides", 0, "properties", 0, "value"}, "s"},
		{"a size of its own", `{title: P, width: 24, height: 3, queries: [{expr: up}]}`, []any{"gridPos", "h"}, 3.0},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			panel := part(t, parsed(t, minimal(test.panel)), "panels", 1)
			if got := part(t, panel, test.path...); !reflect.DeepEqual(got, test.want) {
				t.Errorf("%v is %v, want %v", test.path, got, test.want)
			}
		})
	}
}

func TestMistakes(t *testing.T) {
	tests := []struct{ name, described, want string }{
		{"a word that means nothing", minimal(`{title: P, colour: red, queries: [{expr: up}]}`), "field colour not found"},
		{"a kind that does not exist", minimal(`{title: P, kind: pie, queries: [{expr: up}]}`), `panel "P" of "R": kind "pie": want timeseries, stat or table`},
		{"no query", minimal(`{title: P}`), "there is no query"},
		{"a table without columns", minimal(`{title: P, kind: table, queries: [{expr: up}]}`), "a table has columns"},
		{"a link that leads nowhere", minimal(`{title: P, kind: table, queries: [{expr: up}], columns: [{field: a, title: A, link: here}]}`), `column "A": there is no link "here"`},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := convert([]byte(test.described))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error %v, want %q", err, test.want)
			}
		})
	}
}

// Panels stand side by side as long as there is room, and a row begins below the highest of those before it.
func TestPlaces(t *testing.T) {
	const described = `
uid: u
title: T
variables: [{name: namespace, label: Namespace, query: "label_values(up, namespace)"}]
rows:
  - title: First
    panels:
      - {title: a, kind: stat, queries: [{expr: up}]}
      - {title: b, width: 12, queries: [{expr: up}]}
      - {title: c, queries: [{expr: up}]}
      - {title: d, queries: [{expr: up}]}
  - title: Second
    panels:
      - {title: e, queries: [{expr: up}]}
`
	want := []struct {
		title      string
		x, y, w, h float64
	}{
		{"First", 0, 0, 24, 1},
		{"a", 0, 1, 4, 4}, {"b", 4, 1, 12, 8}, {"c", 16, 1, 8, 8}, {"d", 0, 9, 8, 8},
		{"Second", 0, 17, 24, 1},
		{"e", 0, 18, 8, 8},
	}
	made := parsed(t, described)
	for i, panel := range want {
		got := part(t, made, "panels", i)
		place := map[string]any{"x": panel.x, "y": panel.y, "w": panel.w, "h": panel.h}
		if part(t, got, "title") != panel.title || part(t, got, "id") != float64(i+1) || !reflect.DeepEqual(part(t, got, "gridPos"), place) {
			t.Errorf("panel %d is %v at %v, want %s at %v", i, part(t, got, "title"), part(t, got, "gridPos"), panel.title, place)
		}
	}
	if got := part(t, made, "templating", "list", 1, "definition"); got != "label_values(up, namespace)" {
		t.Errorf("the choice is from %v", got)
	}
}

func TestRun(t *testing.T) {
	from, to := t.TempDir(), t.TempDir()
	if err := run(from, to); err == nil || !strings.Contains(err.Error(), "no descriptions in") {
		t.Errorf("an empty folder: %v", err)
	}
	if err := os.WriteFile(filepath.Join(from, "one.yaml"), []byte(minimal(`{title: P, queries: [{expr: up}]}`)), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := run(from, to); err != nil {
			t.Fatal(err)
		}
	}
	written, err := os.ReadFile(filepath.Join(to, "one.json"))
	if err != nil || !strings.Contains(string(written), `"title": "P"`) {
		t.Errorf("wrote %s, %v", written, err)
	}
	if err := os.WriteFile(filepath.Join(from, "two.yaml"), []byte("uid: [\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(from, to); err == nil || !strings.Contains(err.Error(), "two.yaml") {
		t.Errorf("a file that is no YAML: %v", err)
	}
}

// The dashboards in the package are made of the descriptions here.
func TestPackagedDashboards(t *testing.T) {
	to := t.TempDir()
	if err := run("sources", to); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(filepath.Join(to, "*.json"))
	if err != nil || len(made) != 3 {
		t.Fatalf("made %v, %v", made, err)
	}
	for _, file := range made {
		want, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join("..", "..", "monitoring", "grafana-dashboards", "main", filepath.Base(file)))
		if err != nil || string(got) != string(want) {
			t.Errorf("%s is not as it is made now (%v); run make generate", filepath.Base(file), err)
		}
	}
}
