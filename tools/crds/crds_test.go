// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// source is what controller-gen writes, cut down to what matters here.
const source = `---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: things.example.com
spec:
  names:
    kind: Thing
    plural: things
  versions:
  - name: v1
    schema:
      openAPIV3Schema:
        description: |-
          Thing is broken
          in two.

          - point
          - other point
        type: object
        properties:
          metadata:
            type: object
          spec:
            description: spec is wanted.
            type: object
            properties:
              parts:
                description: parts of it.
                type: array
                items:
                  description: Part is a type.
                  type: object
                  properties:
                    name:
                      description: foreign words.
                      type: string
              labels:
                description: labels of it.
                type: object
                additionalProperties:
                  description: a label.
                  type: string
`

const tidied = `apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata:
  name: things.example.com
spec:
  names:
    kind: Thing
    plural: things
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          description: |-
            Thing is broken in two.

            - point
            - other point
          properties:
            metadata:
              type: object
            spec:
              description: spec is wanted.
              properties:
                labels:
                  additionalProperties:
                    type: string
                  description: labels of it.
                  type: object
                parts:
                  description: parts of it.
                  items:
                    properties:
                      name:
                        description: name of a part.
                        type: string
                    type: object
                  type: array
              type: object
          type: object
`

const twin = `spec:
  versions:
    - name: v1
      schema:
        openAPIV3Schema:
          description: Вещь.
          properties:
            spec:
              description: Что нужно.
              properties:
                labels:
                  description: Метки.
                parts:
                  description: Части.
                  items:
                    properties:
                      name:
                        description: Имя части.
`

const (
	englishWords = "parts[].name: name of a part.\n"
	russianThing = `"": Вещь.` + "\nspec.parts: Части.\nspec.labels: Метки.\n"
	russianOther = "spec: Что нужно.\nparts[].name: Имя части.\n"
)

// workspace writes files below a new directory and returns it.
func workspace(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func complete() map[string]string {
	return map[string]string{
		"raw/example.com_things.yaml": source,
		"english/common.yaml":         englishWords,
		"russian/Thing.yaml":          russianThing,
		"russian/common.yaml":         russianOther,
		"crds/things.yaml":            "of an earlier run",
	}
}

func generate(dir string) error {
	return run(filepath.Join(dir, "raw"), dir, filepath.Join(dir, "crds"))
}

func TestRunWritesResourceAndTwin(t *testing.T) {
	dir := workspace(t, complete())
	// The second run has to write the same.
	for range 2 {
		if err := generate(dir); err != nil {
			t.Fatal(err)
		}
		for name, want := range map[string]string{"things.yaml": tidied, "doc-ru-things.yaml": twin} {
			got, err := os.ReadFile(filepath.Join(dir, "crds", name))
			if err != nil {
				t.Fatal(err)
			}
			if string(got) != want {
				t.Errorf("%s is\n%s\nwant\n%s", name, got, want)
			}
		}
	}
}

func TestRunComplainsAboutWords(t *testing.T) {
	for name, test := range map[string]struct {
		file, content string
		want          []string
	}{
		"missing": {
			"russian/Thing.yaml", `"": Вещь.`,
			[]string{`russian/Thing.yaml: no description of "spec.parts"`, `russian/Thing.yaml: no description of "spec.labels"`},
		},
		"unknown path": {
			"russian/Thing.yaml", russianThing + "spec.wheels: Колёса.\n",
			[]string{`russian/Thing.yaml: no field is called "spec.wheels"`},
		},
		"unknown end": {
			"english/common.yaml", englishWords + "wheels[].name: name of a wheel.\n",
			[]string{`english/common.yaml: no field is called "wheels[].name"`},
		},
		"a single name is no end": {
			"russian/common.yaml", "spec: Что нужно.\nname: Имя.\n",
			[]string{`no description of "spec.parts[].name"`, `no field is called "name"`},
		},
		"broken": {
			"russian/common.yaml", "spec: [",
			[]string{"russian/common.yaml", "yaml"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := complete()
			files[test.file] = test.content
			err := generate(workspace(t, files))
			if err == nil {
				t.Fatal("run succeeded")
			}
			for _, want := range test.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("error %q does not say %q", err, want)
				}
			}
		})
	}
}

func TestRunComplainsAboutSources(t *testing.T) {
	for name, test := range map[string]struct {
		change func(map[string]string)
		want   string
	}{
		"none": {
			func(files map[string]string) { delete(files, "raw/example.com_things.yaml") },
			"let controller-gen write its CRDs there first",
		},
		"not a CRD": {
			func(files map[string]string) { files["raw/example.com_things.yaml"] = "kind: ConfigMap\n" },
			`kind is "ConfigMap", want CustomResourceDefinition`,
		},
		"not YAML": {
			func(files map[string]string) { files["raw/example.com_things.yaml"] = "kind: [" },
			"example.com_things.yaml",
		},
	} {
		t.Run(name, func(t *testing.T) {
			files := complete()
			test.change(files)
			err := generate(workspace(t, files))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("error = %v, want one that says %q", err, test.want)
			}
		})
	}
}
