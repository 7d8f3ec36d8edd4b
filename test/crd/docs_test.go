// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

const docs = "../../docs"

// guides are the documents for users and administrators in English; each has a twin
// in Russian. What is for developers has none.
func guides() []string {
	var out []string
	for _, name := range []string{
		"README.md", "USER_GUIDE.md", "ADMIN_GUIDE.md", "ARCHITECTURE.md", "FAQ.md", "LIMITS.md", "RELEASE_NOTES.md",
	} {
		out = append(out, filepath.Join(docs, name))
	}
	return out
}

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func russianOf(file string) string { return strings.TrimSuffix(file, ".md") + ".ru.md" }

var block = regexp.MustCompile("(?ms)^```([a-z]+)\n(.*?)^```$")

// blocks are the examples in a document that are written in a language.
func blocks(text, language string) []string {
	var out []string
	for _, match := range block.FindAllStringSubmatch(text, -1) {
		if match[1] == language {
			out = append(out, match[2])
		}
	}
	return out
}

// People copy examples as they are: the API server has to take every one of them.
func TestExamplesOfTheGuidesAreAccepted(t *testing.T) {
	server := strictClient(t)
	namespace := apiserver.Namespace(t, server)
	tried := 0
	for _, file := range guides() {
		for _, text := range blocks(read(t, file), "yaml") {
			object := &unstructured.Unstructured{Object: parse(t, text)}
			if object.GetKind() == "ModuleConfig" {
				continue // test/render holds these against the schema of the settings
			}
			if object.GetNamespace() != "" {
				object.SetNamespace(namespace)
			}
			tried++
			if err := server.Create(t.Context(), object, client.DryRunAll); err != nil {
				t.Errorf("%s: %v\n%s", filepath.Base(file), err, text)
			}
		}
	}
	if tried < 10 {
		t.Errorf("only %d examples were tried", tried)
	}
}

// A reader in the other language must find the same examples in the same order.
func TestGuidesHaveEqualTwins(t *testing.T) {
	comment := regexp.MustCompile(` +# .*`)
	for _, file := range guides() {
		english, russian := read(t, file), read(t, russianOf(file))
		for _, language := range []string{"yaml", "shell", "text"} {
			ours, theirs := blocks(english, language), blocks(russian, language)
			if len(ours) != len(theirs) {
				t.Errorf("%s: %d %s examples, its twin has %d", filepath.Base(file), len(ours), language, len(theirs))
				continue
			}
			for i := range ours {
				if comment.ReplaceAllString(ours[i], "") != comment.ReplaceAllString(theirs[i], "") {
					t.Errorf("%s: these differ:\n%s\n%s", filepath.Base(file), ours[i], theirs[i])
				}
			}
		}
		if ours, theirs := headings(english), headings(russian); !slices.Equal(ours, theirs) {
			t.Errorf("%s: the headings have the levels %v, those of its twin %v", filepath.Base(file), ours, theirs)
		}
		if ours, theirs := strings.Count(english, "\n|"), strings.Count(russian, "\n|"); ours != theirs {
			t.Errorf("%s: %d lines of tables, its twin has %d", filepath.Base(file), ours, theirs)
		}
	}
}

// headings are the levels of a document's headings, in order.
func headings(text string) []int {
	var levels []int
	for _, match := range regexp.MustCompile(`(?m)^(#{2,}) `).FindAllStringSubmatch(block.ReplaceAllString(text, ""), -1) {
		levels = append(levels, len(match[1]))
	}
	return levels
}

// The reasons and phases that the guide explains are those that the API has.
func TestReasonsOfTheGuideExist(t *testing.T) {
	known := map[string]bool{}
	constant := regexp.MustCompile(`(?m)^\s+\w+ (?:ConditionReason|ImagePhase|DiskPhase)\s+= "(\w+)"`)
	sources, err := filepath.Glob("../../api/v1alpha2/*.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, source := range sources {
		for _, match := range constant.FindAllStringSubmatch(read(t, source), -1) {
			known[match[1]] = true
		}
	}
	first := regexp.MustCompile("(?m)^\\| ((?:`[A-Z]\\w+`(?:, )?)+) \\|")
	_, statuses, found := strings.Cut(read(t, filepath.Join(docs, "USER_GUIDE.md")), "\n## Statuses\n")
	if !found {
		t.Fatal("the user guide has no section Statuses")
	}
	statuses, _, _ = strings.Cut(statuses, "\n## ")
	explained := 0
	for _, row := range first.FindAllStringSubmatch(statuses, -1) {
		for _, name := range strings.Split(row[1], ", ") {
			explained++
			if !known[strings.Trim(name, "`")] {
				t.Errorf("the guide explains %s, which the API does not have", name)
			}
		}
	}
	if explained < 25 {
		t.Errorf("only %d reasons and phases were found in the guide", explained)
	}
}
