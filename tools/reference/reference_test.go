// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const things = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
spec:
  group: virtualization.deckhouse.io
  scope: Namespaced
  names: {kind: Thing, plural: things, shortNames: [th]}
  versions:
  - name: v1alpha2
    additionalPrinterColumns:
    - {name: Phase, jsonPath: .status.phase, type: string}
    - {name: Parts, jsonPath: ".status.parts[?(@.a||@.b)]", type: string, priority: 1}
    schema:
      openAPIV3Schema:
        description: Thing is a thing.
        properties:
          apiVersion: {type: string, description: not told}
          spec:
            type: object
            description: spec is wanted.
            required: [parts]
            properties:
              parts:
                description: |-
                  parts of it:
                  - one
                  - other
                type: array
                minItems: 1
                maxItems: 16
                items:
                  type: object
                  properties:
                    size:
                      description: size of a part.
                      x-kubernetes-int-or-string: true
                      pattern: '^([KMGTPE]i)$'
                    mode: {description: a|b, type: string, enum: ['', A, B], default: A}
                    port: {description: port of it., x-kubernetes-int-or-string: true}
                  x-kubernetes-validations:
                  - {rule: 'true', message: size must be there}
              labels: {description: labels of it., type: object, additionalProperties: {type: string}, default: {a: b, c: 1}}
              count: {description: how many., type: integer, minimum: 1, maximum: 9}
          status:
            type: object
            properties:
              phase: {description: phase of it., type: string}
              since: {description: since when., type: string, format: date-time}
        x-kubernetes-validations:
        - {rule: 'true', message: 'names must not contain dots'}
`

const twin = `spec:
  versions:
  - name: v1alpha2
    schema:
      openAPIV3Schema:
        description: Eine Sache.
        properties:
          spec:
            description: gewollt
            properties:
              parts: {description: Teile., items: {properties: {size: {description: Größe eines Teils.}}}}
              count: {description: wie viele.}
`

const wantPage = `---
title: "Thing"
description: "All fields of Thing, what they default to and what is refused."
---

<!-- Generated from the API (make generate); do not edit. -->

Thing is a thing.

| | |
|---|---|
| apiVersion | ` + "`virtualization.deckhouse.io/v1alpha2`" + ` |
| kind | ` + "`Thing`" + ` |
| Scope | a namespace |
| Names for kubectl | ` + "`things`, `th`" + ` |

What conditions and reasons mean is in [Conditions and reasons](conditions.html).

## spec

| Field | Type | Description |
|---|---|---|
| ` + "`spec.count`" + ` | integer | how many. At least 1. At most 9. |
| ` + "`spec.labels`" + ` | map[string]string | labels of it. Default: ` + "`{" + `"a":"b","c":1` + "}`" + `. |
| ` + "`spec.parts`" + ` | []object | parts of it:<br>— one<br>— other<br>Required. Entries: at least 1. Entries: at most 16. |
| ` + "`spec.parts[].mode`" + ` | string | a\|b Default: ` + "`A`. One of `A`, `B`." + ` |
| ` + "`spec.parts[].port`" + ` | integer \| string | port of it. |
| ` + "`spec.parts[].size`" + ` | quantity | size of a part. |

## status

| Field | Type | Description |
|---|---|---|
| ` + "`status.phase`" + ` | string | phase of it. |
| ` + "`status.since`" + ` | time | since when. |

## What is refused

Beside types and bounds, kube-apiserver itself checks these rules. What depends on other objects is checked by the module's webhooks and told in conditions.

| Field | Answer |
|---|---|
| ` + "`Thing`" + ` | names must not contain dots |
| ` + "`spec.parts[]`" + ` | size must be there |

## Columns of kubectl get

| Column | Field | Shown |
|---|---|---|
| Phase | ` + "`status.phase`" + ` | always |
| Parts | ` + "`status.parts[?(@.a\\|\\|@.b)]`" + ` | ` + "`-o wide`" + ` |
`

const source = `package v1

// Conditions of Thing. Readers of the source know more.
const (
	// ConditionReady tells whether the thing is
	// ready.
	ConditionReady ConditionType = "Ready"
)

// Reasons of ConditionReady of Thing.
const (
	// ReasonMissing means that a part is missing; ConditionReady says which. Add it.
	ReasonMissing ConditionReason = "PartMissing"
	// ReasonAll means that all parts are there.
	ReasonAll ConditionReason = "AllParts"
)

// Other is something else.
const Other = "x"
`

const translation = `Conditions of Thing: Bedingungen
ConditionReady: Ob die Sache bereit ist.
Reasons of ` + "`Ready`" + ` of Thing: Gründe
ReasonMissing: Ein Teil fehlt.
ReasonAll: Alle Teile sind da.
`

const wantConditions = `## Conditions

### Conditions of Thing

| Condition | What it means |
|---|---|
| ` + "`Ready`" + ` | Tells whether the thing is ready. |

## Reasons

### Reasons of ` + "`Ready`" + ` of Thing

| Reason | What it means |
|---|---|
| ` + "`AllParts`" + ` | All parts are there. |
| ` + "`PartMissing`" + ` | A part is missing; ` + "`Ready`" + ` says which. Add it. |
`

// lay writes files below a new directory and returns it.
func lay(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func word(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("words", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func sources(t *testing.T) map[string]string {
	t.Helper()
	return map[string]string{
		"crds/things.yaml": things, "crds/doc-ru-things.yaml": twin,
		"crds/engine.yaml":         strings.ReplaceAll(things, "virtualization.deckhouse.io", "kubevirt.io"),
		"api/conditions.go":        source,
		"api/conditions_test.go":   "package v1\nconst ( ReasonNone ConditionReason = `x` )",
		"words/en.yaml":            word(t, "en.yaml"),
		"words/ru.yaml":            word(t, "ru.yaml"),
		"words/conditions.ru.yaml": translation,
		"docs/GONE.md":             "a kind that is gone",
	}
}

func generate(dir string) error {
	return run(filepath.Join(dir, "crds"), filepath.Join(dir, "api"), filepath.Join(dir, "words"), filepath.Join(dir, "docs"))
}

func read(t *testing.T, dir, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(dir, "docs", name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func TestPages(t *testing.T) {
	dir := lay(t, sources(t))
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	if got := read(t, dir, "THING.md"); got != wantPage {
		t.Errorf("THING.md:\n%s\nwant:\n%s", got, wantPage)
	}
	if _, page, _ := strings.Cut(read(t, dir, "CONDITIONS.md"), "programs may rely on them.\n\n"); page != wantConditions {
		t.Errorf("CONDITIONS.md:\n%s\nwant:\n%s", page, wantConditions)
	}
	entries, err := os.ReadDir(filepath.Join(dir, "docs"))
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, entry := range entries {
		names = append(names, entry.Name())
	}
	if got, want := strings.Join(names, " "), "CONDITIONS.md CONDITIONS.ru.md THING.md THING.ru.md"; got != want {
		t.Errorf("pages = %s, want %s", got, want)
	}
}

// The other language has the same fields, in its own words.
func TestCells(t *testing.T) {
	for text, want := range map[string]string{
		"  a | b\n- c\nd < e ":                     `a \| b<br>— c<br>d &lt; e`,
		"begins with http:// or https://.":         "begins with `http://` or `https://`.",
		"for example https://a.org/disk.qcow2, or": "for example `https://a.org/disk.qcow2`, or",
		"as `https://a.org` and (https://b.org)":   "as `https://a.org` and (`https://b.org`)",
		"`curl https://a.org`":                     "`curl https://a.org`",
	} {
		if got := cell(text); got != want {
			t.Errorf("%q became %q, want %q", text, got, want)
		}
	}
}

func TestTwins(t *testing.T) {
	dir := lay(t, sources(t))
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	page := read(t, dir, "THING.ru.md")
	for _, want := range []string{
		"\nEine Sache.\n", "| `spec.parts[].size` | quantity | Größe eines Teils. |", "| `spec.count` | integer | wie viele. ",
		"| `status.phase` | string |  |", "| `spec.parts[]` | size must be there |",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("THING.ru.md lacks %q:\n%s", want, page)
		}
	}
	page = read(t, dir, "CONDITIONS.ru.md")
	for _, want := range []string{"### Bedingungen", "### Gründe", "| `PartMissing` | Ein Teil fehlt. |"} {
		if !strings.Contains(page, want) {
			t.Errorf("CONDITIONS.ru.md lacks %q:\n%s", want, page)
		}
	}
}

func TestTwiceIsTheSame(t *testing.T) {
	dir := lay(t, sources(t))
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	first := read(t, dir, "THING.md") + read(t, dir, "CONDITIONS.ru.md")
	if err := generate(dir); err != nil {
		t.Fatal(err)
	}
	if second := read(t, dir, "THING.md") + read(t, dir, "CONDITIONS.ru.md"); second != first {
		t.Error("the second run wrote something else")
	}
}

// Whoever adds a condition learns here what else is to be written.
func TestWhatIsMissingIsNamed(t *testing.T) {
	tests := []struct{ name, file, content, want string }{
		{"translation", "words/conditions.ru.yaml", strings.ReplaceAll(translation, "ReasonAll: Alle Teile sind da.\n", ""), `no text for "ReasonAll"`},
		{"constant", "words/conditions.ru.yaml", translation + "ReasonGone: weg\n", `nothing is called "ReasonGone"`},
		{"comment of a group", "api/conditions.go", strings.ReplaceAll(source, "// Reasons of ConditionReady of Thing.\n", ""), "the block of ReasonMissing has no comment"},
		{"conditions", "api/conditions.go", "package v1\n", "no conditions in"},
		{"word", "words/en.yaml", "summary: x\n", "no generated"},
		{"unknown word", "words/ru.yaml", "brief: x\n", "field brief not found"},
		{"schema", "crds/things.yaml", "spec: {group: virtualization.deckhouse.io}\n", "want one version with a schema"},
		{"kinds", "crds/things.yaml", strings.ReplaceAll(things, "group: virtualization.deckhouse.io", "group: other"), "no kind of virtualization.deckhouse.io"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			files := sources(t)
			files[test.file] = test.content
			err := generate(lay(t, files))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want one that says %q", err, test.want)
			}
		})
	}
}
