// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// expectation is one line of testdata/paths-*.txt.
type expectation struct {
	kind, path, kindOfValue string
	values                  []string
}

func expectations(t *testing.T, file string) []expectation {
	t.Helper()
	var out []expectation
	kind := ""
	for _, line := range lines(t, file) {
		if !strings.HasPrefix(line, " ") {
			kind = line
			continue
		}
		fields := strings.Fields(line)
		e := expectation{kind: kind, path: fields[0], kindOfValue: fields[1]}
		if len(fields) > 2 {
			e.values = strings.Split(fields[2], "|")
		}
		out = append(out, e)
	}
	return out
}

// exclusions maps what testdata/exclusions.txt names, "Kind path" or "Kind path=value", to whether it was met.
type exclusions map[string]bool

func readExclusions(t *testing.T) exclusions {
	t.Helper()
	out := exclusions{}
	for _, line := range lines(t, "exclusions.txt") {
		what, reason, _ := strings.Cut(line, ": ")
		if strings.TrimSpace(reason) == "" {
			t.Errorf("exclusions.txt: %q has no reason", what)
		}
		out[what] = false
	}
	return out
}

// path tells whether a path or something above it is left out.
func (x exclusions) path(kind, path string) bool {
	for what := range x {
		excluded, found := strings.CutPrefix(what, kind+" ")
		rest, below := strings.CutPrefix(path, excluded)
		if found && below && (rest == "" || strings.ContainsAny(rest[:1], ".[{")) {
			x[what] = true
			return true
		}
	}
	return false
}

func (x exclusions) value(kind, path, value string) bool {
	what := kind + " " + path + "=" + value
	if _, found := x[what]; !found {
		return false
	}
	x[what] = true
	return true
}

func TestNoPathIsMissing(t *testing.T) {
	left := readExclusions(t)
	have := map[string]map[string]*apiextensionsv1.JSONSchemaProps{}
	for kind := range kinds {
		have[kind] = paths(schemaOf(resource(t, kind)))
	}
	for _, file := range []string{"paths-current.txt", "paths-first.txt"} {
		for _, want := range expectations(t, file) {
			schema, found := have[want.kind][want.path]
			switch excluded := left.path(want.kind, want.path); {
			case excluded && found:
				t.Errorf("%s: %s is in exclusions.txt and exists", want.kind, want.path)
			case !excluded && !found:
				t.Errorf("%s: %s of %s is missing", want.kind, want.path, file)
			case found:
				checkType(t, want, schema)
				checkValues(t, want, schema, left)
			}
		}
	}
	for what, met := range left {
		if !met {
			t.Errorf("exclusions.txt: nothing is called %q", what)
		}
	}
}

func checkType(t *testing.T, want expectation, schema *apiextensionsv1.JSONSchemaProps) {
	t.Helper()
	got := typeOf(schema)
	// A field that takes numbers and strings takes what only took strings before.
	if got == want.kindOfValue || got == "int-or-string" && want.kindOfValue == "string" {
		return
	}
	t.Errorf("%s: %s is of type %q, want %q", want.kind, want.path, got, want.kindOfValue)
}

func checkValues(t *testing.T, want expectation, schema *apiextensionsv1.JSONSchemaProps, left exclusions) {
	t.Helper()
	accepted := enumOf(schema)
	if len(accepted) == 0 {
		return
	}
	for _, value := range want.values {
		found := slices.Contains(accepted, value)
		switch excluded := left.value(want.kind, want.path, value); {
		case excluded && found:
			t.Errorf("%s: value %s of %s is in exclusions.txt and accepted", want.kind, value, want.path)
		case !excluded && !found:
			t.Errorf("%s: %s does not accept %s", want.kind, want.path, value)
		}
	}
}
