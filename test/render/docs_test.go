// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// The settings that the guides show are settings that the module takes.
func TestSettingsOfTheGuidesFollowTheSchema(t *testing.T) {
	schema, err := Settings()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../docs/*.md")
	if err != nil || len(files) < 6 {
		t.Fatalf("found %v, %v", files, err)
	}
	block := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$")
	tried := 0
	for _, file := range files {
		text, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			t.Fatal(err)
		}
		for _, match := range block.FindAllStringSubmatch(string(text), -1) {
			if !strings.Contains(match[1], "kind: ModuleConfig") {
				continue
			}
			var config struct {
				Spec struct {
					Version  int            `json:"version"`
					Settings map[string]any `json:"settings"`
				} `json:"spec"`
			}
			if err := yaml.Unmarshal([]byte(match[1]), &config); err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			tried++
			if config.Spec.Version != 2 {
				t.Errorf("%s: version %d of the settings", file, config.Spec.Version)
			}
			for _, problem := range Validate(schema, config.Spec.Settings) {
				t.Errorf("%s: %s in\n%s", file, problem, match[1])
			}
		}
	}
	if tried < 8 {
		t.Errorf("only %d ModuleConfigs were tried", tried)
	}
}
