// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package dmt holds the module against those rules of Deckhouse's module linter that
// look at files as they lie in the repository. What it asks of the rendered chart is
// in test/render. The linter itself cannot be called here: it is published as a
// program only, and no module proxy serves it.
package dmt

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode"

	"sigs.k8s.io/yaml"
)

const root = "../.."

// exclusions are all that .dmtlint.yaml makes use of. The linter passes over a key
// that it does not know, so that a misspelt one would exclude nothing and say nothing.
type exclusions struct {
	Global struct {
		Settings struct {
			Module struct {
				Rules struct {
					LegacyReleaseFile struct {
						Impact string `json:"impact"`
					} `json:"legacy-release-file"`
				} `json:"rules"`
			} `json:"module"`
		} `json:"linters-settings"`
	} `json:"global"`
	Settings struct {
		Container struct {
			Exclude struct {
				UnusedExceptions []string `json:"security-policy-exception-unused"`
			} `json:"exclude-rules"`
		} `json:"container"`
		OpenAPI struct {
			Exclude struct {
				Enum []string `json:"enum"`
			} `json:"exclude-rules"`
		} `json:"openapi"`
		NoCyrillic struct {
			Exclude paths `json:"exclude-rules"`
		} `json:"no-cyrillic"`
		Module struct {
			Exclude struct {
				License paths `json:"license"`
			} `json:"exclude-rules"`
		} `json:"module"`
		RBAC struct {
			Exclude struct {
				Wildcards []struct {
					Kind string `json:"kind"`
					Name string `json:"name"`
				} `json:"wildcards"`
			} `json:"exclude-rules"`
		} `json:"rbac"`
	} `json:"linters-settings"`
}

type paths struct {
	Files       []string `json:"files"`
	Directories []string `json:"directories"`
}

// excluding tells which entry lets a file be; empty if none does.
func (p paths) excluding(file string) string {
	for _, directory := range p.Directories {
		if strings.HasPrefix(file, directory) {
			return directory
		}
	}
	if slices.Contains(p.Files, file) {
		return file
	}
	return ""
}

// unused are the entries that let no file be.
func (p paths) unused(used map[string]bool) []string {
	return slices.DeleteFunc(slices.Concat(p.Directories, p.Files), func(entry string) bool { return used[entry] })
}

func read(t *testing.T, file string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

func parse(t *testing.T, file string, into any) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(read(t, file)), into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

func excluded(t *testing.T) exclusions {
	t.Helper()
	var out exclusions
	if err := yaml.UnmarshalStrict([]byte(read(t, ".dmtlint.yaml")), &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// files lists what is in the repository, without what is built and what git keeps.
func files(t *testing.T, endings ...string) []string {
	t.Helper()
	var out []string
	err := filepath.WalkDir(root, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if entry.IsDir() && (name == ".git" || name == "bin") {
			return filepath.SkipDir
		}
		if entry.Type().IsRegular() && slices.Contains(endings, filepath.Ext(name)) {
			out = append(out, name)
		}
		return nil
	})
	if err != nil || len(out) == 0 {
		t.Fatalf("no files, %v", err)
	}
	return out
}

// schemas are the settings and the definitions of resources.
func schemas(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, file := range files(t, ".yaml") {
		if dir := filepath.Dir(file); dir == "openapi" || dir == "crds" {
			out = append(out, file)
		}
	}
	return out
}

func TestValuesOfEnumsAreInCamelCase(t *testing.T) {
	allowed := excluded(t).Settings.OpenAPI.Exclude.Enum
	used := map[string]bool{}
	for _, file := range schemas(t) {
		var schema any
		parse(t, file, &schema)
		eachEnum(schema, "", func(path string, values []any) {
			for _, value := range values {
				text, isText := value.(string)
				if !isText || camelCase(text) {
					continue
				}
				if !slices.Contains(allowed, path) {
					t.Errorf("%s: %s: %q is not in camel case", file, path, text)
				}
				used[path] = true
			}
		})
	}
	for _, path := range allowed {
		if !used[path] {
			t.Errorf(".dmtlint.yaml excludes %s for nothing", path)
		}
	}
}

// eachEnum finds the enums of a schema; their paths are as .dmtlint.yaml writes them.
func eachEnum(node any, path string, found func(path string, values []any)) {
	switch value := node.(type) {
	case map[string]any:
		for name, child := range value {
			if values, isList := child.([]any); isList && name == "enum" {
				found(strings.TrimPrefix(path, "."), values)
			}
			eachEnum(child, path+"."+name, found)
		}
	case []any:
		for i, child := range value {
			eachEnum(child, fmt.Sprintf("%s[%d]", path, i), found)
		}
	}
}

func camelCase(value string) bool {
	letters := []rune(value)
	if value != "" && unicode.IsLetter(letters[0]) && !unicode.IsUpper(letters[0]) {
		return false
	}
	for i, letter := range letters {
		fraction := letter == '.' && i > 0 && unicode.IsNumber(letters[i-1])
		if !unicode.IsLetter(letter) && !unicode.IsNumber(letter) && !fraction {
			return false
		}
	}
	return true
}

func TestDefinitionsHaveTwinsAndLabels(t *testing.T) {
	definitions := 0
	for _, file := range schemas(t) {
		dir, name := filepath.Split(file)
		if name == "openapi-case-tests.yaml" || name == "values.yaml" {
			continue
		}
		twin := dir + "doc-ru-" + name
		if base, found := strings.CutPrefix(name, "doc-ru-"); found {
			twin = dir + base
		}
		if _, err := os.Stat(filepath.Join(root, twin)); err != nil {
			t.Errorf("%s has no twin: %v", file, err)
		}
		if dir != "crds/" || strings.HasPrefix(name, "doc-ru-") {
			continue
		}
		definitions++
		var definition struct {
			APIVersion string `json:"apiVersion"`
			Metadata   struct {
				Labels map[string]string `json:"labels"`
			} `json:"metadata"`
		}
		parse(t, file, &definition)
		if definition.APIVersion != "apiextensions.k8s.io/v1" || definition.Metadata.Labels["module"] != "virtualization" {
			t.Errorf("%s: %+v", file, definition)
		}
	}
	if definitions < 9 {
		t.Errorf("only %d definitions were found", definitions)
	}
}

// What people of all countries work on is in English.
func TestSourcesAreEnglish(t *testing.T) {
	russian := regexp.MustCompile(`\p{Cyrillic}`)
	skipped := regexp.MustCompile(`doc-ru-|\.ru\.|openapi/conversions/|module\.yaml|(^|/)ru\.`)
	// Titles of roles are texts for people.
	titles := regexp.MustCompile(`(?m)^.*ru\.meta\.deckhouse\.io/(title|description).*$`)
	allowed := excluded(t).Settings.NoCyrillic.Exclude
	used := map[string]bool{}
	for _, file := range files(t, ".yaml", ".yml", ".json", ".go") {
		if skipped.MatchString(file) || !russian.MatchString(titles.ReplaceAllString(read(t, file), "")) {
			continue
		}
		entry := allowed.excluding(file)
		if entry == "" {
			t.Errorf("%s is not all English", file)
		}
		used[entry] = true
	}
	if left := allowed.unused(used); len(left) > 0 {
		t.Errorf(".dmtlint.yaml excludes %q for nothing", left)
	}
}

// Every file says whose it is; the linter wants the line of another owner, so that
// all of them have to be excluded there. It takes what has no ending for a program.
func TestSourcesSayWhoseTheyAre(t *testing.T) {
	allowed := excluded(t).Settings.Module.Exclude.License
	for _, file := range files(t, ".go", ".sh", ".py", ".lua", "") {
		text := read(t, file)
		if filepath.Ext(file) != "" && !strings.Contains(text, "SPDX-License-Identifier: Apache-2.0") && !strings.Contains(text, "Code generated") {
			t.Errorf("%s has no line about its licence", file)
		}
		if allowed.excluding(file) == "" && filepath.Dir(file) != "." {
			t.Errorf("%s is not excluded from the rule about licences", file)
		}
	}
	for _, directory := range allowed.Directories {
		if _, err := os.Stat(filepath.Join(root, directory)); err != nil {
			t.Errorf(".dmtlint.yaml: %v", err)
		}
	}
}

// What the module needs of Deckhouse follows from what it makes use of.
func TestDefinitionOfTheModule(t *testing.T) {
	var module struct {
		Name         string            `json:"name"`
		Stage        string            `json:"stage"`
		Weight       int               `json:"weight"`
		Descriptions map[string]string `json:"descriptions"`
		Requirements struct {
			Deckhouse string `json:"deckhouse"`
		} `json:"requirements"`
		Disable struct {
			Message  string            `json:"message"`
			Messages map[string]string `json:"messages"`
		} `json:"disable"`
	}
	parse(t, "module.yaml", &module)
	stages := []string{"Experimental", "Preview", "General Availability", "Deprecated"}
	if module.Name != "virtualization" || !slices.Contains(stages, module.Stage) || module.Weight != 0 || module.Descriptions["en"] == "" {
		t.Errorf("%+v", module)
	}
	if module.Disable.Message != module.Disable.Messages["en"] || module.Disable.Messages["ru"] == "" {
		t.Errorf("messages about disabling: %+v", module.Disable)
	}
	// 1.71 has readiness probes of hooks, 1.72 no weights, 1.73 optional modules.
	if module.Requirements.Deckhouse != ">= 1.74.2" {
		t.Errorf("needs Deckhouse %q", module.Requirements.Deckhouse)
	}
	var chart struct {
		Name    string `json:"name"`
		Version string `json:"version"`
	}
	parse(t, "Chart.yaml", &chart)
	if chart.Name != module.Name || chart.Version == "" {
		t.Errorf("the chart is %+v", chart)
	}
	if !strings.Contains(read(t, "hooks/go.mod"), "github.com/deckhouse/module-sdk v") {
		t.Error("the hooks do not use the SDK that the requirement is for")
	}
}

// Helm packs what is not ignored into a Secret that has to stay small.
func TestHelmIgnoresAllButTheChart(t *testing.T) {
	ignored := strings.Split(read(t, ".helmignore"), "\n")
	wanted := []string{"Chart.yaml", "charts", "monitoring", "templates"}
	entries, err := os.ReadDir(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, entry := range entries {
		name := entry.Name()
		covered := slices.Contains(ignored, "/"+name+"/") || slices.Contains(ignored, "/"+name) || slices.Contains(ignored, "*"+filepath.Ext(name))
		if covered == slices.Contains(wanted, name) {
			t.Errorf(".helmignore: %s: ignored: %v", name, covered)
		}
	}
}
