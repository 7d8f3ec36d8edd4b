// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"cmp"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"sigs.k8s.io/yaml"
)

// alertTests holds tests of the alerts in the format of `promtool test rules`. Each names rules.yaml as its file of
// rules: the alerts that were rendered, with no annotation but the summary, since promtool compares every byte of them.
var alertTests = filepath.Join("testdata", "alerts")

// promtool runs the tool that comes with Prometheus; `make test` has it from the sandbox's build.
func promtool(t *testing.T, dir string, args ...string) {
	t.Helper()
	path, err := exec.LookPath(cmp.Or(os.Getenv("PROMTOOL"), "promtool"))
	if err != nil {
		t.Fatalf("%v: set PROMTOOL to what `bin/sandbox build prometheus` prints", err)
	}
	command := exec.Command(path, args...)
	command.Dir = dir
	if output, err := command.CombinedOutput(); err != nil {
		t.Fatalf("promtool %v: %v\n%s", args, err, output)
	}
}

// writeRules writes alerts as Prometheus reads them.
func writeRules(t *testing.T, file string, rules map[string]alert) {
	t.Helper()
	ordered := make([]alert, 0, len(rules))
	for _, name := range slices.Sorted(maps.Keys(rules)) {
		ordered = append(ordered, rules[name])
	}
	content, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "all", "rules": ordered}}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}

// Prometheus itself reads the rules, templates in their texts included.
func TestPrometheusTakesTheAlerts(t *testing.T) {
	dir := t.TempDir()
	writeRules(t, filepath.Join(dir, "rules.yaml"), alerts(t, render(t, Case{})))
	promtool(t, dir, "check", "rules", "--lint-fatal", "rules.yaml")
}

func TestAlertsFire(t *testing.T) {
	rules := alerts(t, render(t, Case{}))
	for name, rule := range rules {
		rule.Annotations = map[string]string{"summary": rule.Annotations["summary"]}
		rules[name] = rule
	}
	dir := t.TempDir()
	writeRules(t, filepath.Join(dir, "rules.yaml"), rules)
	args := []string{"test", "rules"}
	for name, content := range alertTestFiles(t) {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
		args = append(args, name)
	}
	promtool(t, dir, args...)
}

// An alert that was never seen to fire may be one that can't, and one that was never seen silent may cry for ever.
func TestAlertsAreTestedBothWays(t *testing.T) {
	fires, silent := map[string]bool{}, map[string]bool{}
	for name, content := range alertTestFiles(t) {
		var file struct {
			RuleFiles []string `json:"rule_files"`
			Tests     []struct {
				Alerts []struct {
					Name     string `json:"alertname"`
					Expected []any  `json:"exp_alerts"`
				} `json:"alert_rule_test"`
			} `json:"tests"`
		}
		if err := yaml.Unmarshal(content, &file); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if !slices.Equal(file.RuleFiles, []string{"rules.yaml"}) {
			t.Errorf("%s tests the rules of %v, want those that were rendered", name, file.RuleFiles)
		}
		for _, test := range file.Tests {
			for _, expected := range test.Alerts {
				if len(expected.Expected) > 0 {
					fires[expected.Name] = true
				} else {
					silent[expected.Name] = true
				}
			}
		}
	}
	rules := alerts(t, render(t, Case{}))
	for name := range rules {
		if !fires[name] || !silent[name] {
			t.Errorf("%s: seen firing = %v, seen silent = %v; add it to %s", name, fires[name], silent[name], alertTests)
		}
	}
	for name := range silent {
		if _, there := rules[name]; !there {
			t.Errorf("%s is tested, and no rule has that name", name)
		}
	}
}

// alertTestFiles reads the tests by file name.
func alertTestFiles(t *testing.T) map[string][]byte {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(alertTests, "*.yaml"))
	if err != nil || len(paths) == 0 {
		t.Fatalf("found %v, %v", paths, err)
	}
	files := map[string][]byte{}
	for _, path := range paths {
		content, err := os.ReadFile(filepath.Clean(path))
		if err != nil {
			t.Fatal(err)
		}
		files[filepath.Base(path)] = content
	}
	return files
}
