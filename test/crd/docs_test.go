// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
	"github.com/deckhouse/virtualization/test/guide"
)

const docs = "../../docs"

func read(t *testing.T, file string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Clean(file))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// People copy examples as they are: the API server has to take every one of them.
func TestExamplesOfTheGuidesAreAccepted(t *testing.T) {
	server := strictClient(t)
	namespace := apiserver.Namespace(t, server)
	pages, err := guide.Pages(docs)
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, page := range pages {
		for _, block := range page.Blocks {
			if block.Language != "yaml" {
				continue
			}
			for _, text := range block.Documents() {
				object := &unstructured.Unstructured{Object: parse(t, text)}
				if object.GroupVersionKind().Group == "deckhouse.io" {
					continue // Deckhouse's own; test/render holds ModuleConfigs against the schema of the settings
				}
				if object.GetNamespace() != "" {
					object.SetNamespace(namespace)
				}
				tried++
				if err := server.Create(t.Context(), object, client.DryRunAll); err != nil {
					t.Errorf("%s:%d: %v\n%s", page.File, block.Line, err, text)
				}
			}
		}
	}
	if tried < 30 {
		t.Errorf("only %d examples were tried", tried)
	}
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
