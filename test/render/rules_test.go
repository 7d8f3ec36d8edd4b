// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"regexp"
	"strings"
	"testing"
)

type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for,omitempty"`
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
}

// alerts decodes every PrometheusRule that was rendered.
func alerts(t *testing.T, objects []Object) map[string]alert {
	t.Helper()
	found := map[string]alert{}
	for _, object := range objects {
		if object.GetKind() != "PrometheusRule" {
			continue
		}
		var decoded struct {
			Spec struct {
				Groups []struct {
					Name  string  `json:"name"`
					Rules []alert `json:"rules"`
				} `json:"groups"`
			} `json:"spec"`
		}
		convert(t, object, &decoded)
		for _, group := range decoded.Spec.Groups {
			if !strings.HasPrefix(group.Name, "d8.virtualization.") {
				t.Errorf("%s: group %s, want a name that begins with d8.virtualization.", object.GetName(), group.Name)
			}
			for _, rule := range group.Rules {
				if _, twice := found[rule.Alert]; twice {
					t.Errorf("alert %s is there twice", rule.Alert)
				}
				found[rule.Alert] = rule
			}
		}
	}
	return found
}

// A rule that Prometheus can't read stops all rules of its file, and one about a metric that nobody has never fires.
func TestAlertsAreExpressions(t *testing.T) {
	known := knownMetrics(t)
	for name, rule := range alerts(t, render(t, Case{})) {
		for _, problem := range known.problems(rule.Expr) {
			t.Errorf("%s: %s", name, problem)
		}
	}
}

func TestAlertsTellWhatToDo(t *testing.T) {
	command := regexp.MustCompile(`(?m)^d8 k\b`)
	for name, rule := range alerts(t, render(t, Case{})) {
		for _, key := range []string{"summary", "description"} {
			if rule.Annotations[key] == "" {
				t.Errorf("%s has no %s", name, key)
			}
		}
		if !command.MatchString(rule.Annotations["description"]) {
			t.Errorf("%s names no command", name)
		}
		// 1 and 2 are for clusters that do not work at all.
		if level := rule.Labels["severity_level"]; len(level) != 1 || level < "3" || level > "9" {
			t.Errorf("%s has the severity %q, want 3 to 9", name, level)
		}
		if rule.Annotations["plk_protocol_version"] != "1" || rule.Annotations["plk_markup_format"] != "markdown" {
			t.Errorf("%s lacks what the platform's notifications need: %v", name, rule.Annotations)
		}
	}
}

// What a text names is left over by the aggregations of its expression: a label that is not is shown as nothing.
func TestAlertsHaveTheLabelsOfTheirTexts(t *testing.T) {
	named := regexp.MustCompile(`\$labels\.(\w+)`)
	for name, rule := range alerts(t, render(t, Case{})) {
		var labels []string
		if list := rule.Annotations["plk_labels_as_annotations"]; list != "" {
			labels = strings.Split(list, ",")
		}
		for _, match := range named.FindAllStringSubmatch(rule.Annotations["summary"]+rule.Annotations["description"], -1) {
			labels = append(labels, match[1])
		}
		for _, label := range labels {
			if !regexp.MustCompile(`\bby \([^)]*\b` + label + `\b|"` + label + `", "`).MatchString(rule.Expr) {
				t.Errorf("%s names the label %s, which its expression leaves out", name, label)
			}
		}
	}
}

// What pods of importers are called is decided by the controllers; the rules know it by a pattern.
func TestAlertsKnowImporters(t *testing.T) {
	pattern := regexp.MustCompile(`pod=~"([^"]+)"`)
	for _, name := range []string{"D8VirtualizationImportNotStarted", "D8VirtualizationImportFailsAgainAndAgain"} {
		found := pattern.FindStringSubmatch(alerts(t, render(t, Case{}))[name].Expr)
		if found == nil {
			t.Fatalf("%s chooses no pods", name)
		}
		pods := regexp.MustCompile("^(?:" + found[1] + ")$")
		for pod, want := range map[string]bool{
			"d8v-vi-importer-0dfe9d4c": true, "d8v-cvi-importer-0dfe9d4c": true, "d8v-importer-0dfe9d4c": true,
			"d8v-inspect-0dfe9d4c": true, "d8v-upload-0dfe9d4c": true,
			"cdi-importer-0dfe9d4c": false, "virt-launcher-vm-x": false, "d8v-vd-0dfe9d4c": false,
		} {
			if got := pods.MatchString(pod); got != want {
				t.Errorf("%s: %s is an importer = %v, want %v", name, pod, got, want)
			}
		}
	}
}

func TestNoAlertsWithoutMetrics(t *testing.T) {
	if found := alerts(t, render(t, matrix["bare platform"])); len(found) > 0 {
		t.Errorf("%d alerts for a platform that would not know the kind", len(found))
	}
}
