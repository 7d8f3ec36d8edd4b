// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dmt

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// slip is what must not be in the source of the chart, with the reason.
type slip struct {
	endings []string
	found   *regexp.Regexp
	reason  string
}

var (
	chart      = []string{".yaml", ".tpl"}
	dashboards = []string{".json"}
	everything = slices.Concat(chart, dashboards)
	slips      = []slip{
		{chart, regexp.MustCompile(`enabledModules *\| *has "`), "what a module brings is asked of .Capabilities.APIVersions; its name may change"},
		{chart, regexp.MustCompile(`has "[^"]+-crd" `), "no module has only definitions any more"},
		{chart, regexp.MustCompile(`\bcluster\.local\b`), "the domain of a cluster is a setting of it"},
		{chart, regexp.MustCompile(`helm_lib_module_image[^}]*"[^"}]*_[^"}]*"`), "the name of an image has no underscores"},
		{chart, regexp.MustCompile(`mountPath: "?/sys/?"?\s`), "where containerd is hardened, /sys comes without /sys/fs/cgroup"},
		{dashboards, regexp.MustCompile(`"type": *"(graph|flant-statusmap-panel)"`), "Grafana no longer has this kind of panel"},
		{dashboards, regexp.MustCompile(`interval_(rv|sx3|sx4)`), "the interval is $__rate_interval"},
		{dashboards, regexp.MustCompile(`"alert": *\{`), "alerts are rules of Prometheus"},
		{everything, regexp.MustCompile(`https?://(www\.)?deckhouse\.(io|ru)\b`), "clusters have a documentation of their own: helm_lib_module_documentation_uri"},
	}
)

func TestSourcesOfTheChart(t *testing.T) {
	for _, file := range files(t, ".yaml", ".tpl", ".json") {
		if !strings.HasPrefix(file, "templates/") && !strings.HasPrefix(file, "monitoring/") {
			continue
		}
		text := read(t, file)
		for _, s := range slips {
			if found := s.found.FindString(text); found != "" && slices.Contains(s.endings, filepath.Ext(file)) {
				t.Errorf("%s: %q: %s", file, found, s.reason)
			}
		}
	}
}

func TestSlipsAreFound(t *testing.T) {
	for text, want := range map[string]int{
		`{{ if (.Values.global.enabledModules | has "node-manager") }}`:     0,
		`{{ if has "node-manager-crd" .Values.global.enabledModules }}`:     1,
		`host: a.b.svc.cluster.local`:                                       2,
		`image: {{ include "helm_lib_module_image" (list . "vm_router") }}`: 3,
		"mountPath: /sys\n":                                                4,
		`{"type": "graph"}`:                                                5,
		`rate(a[$__interval_sx3])`:                                         6,
		`{"alert": {"name": "A"}}`:                                         7,
		`see https://deckhouse.io/modules/virtualization/`:                 8,
		`{"url": "http://www.deckhouse.ru"}`:                               8,
		`apiVersion: deckhouse.io/v1`:                                      -1,
		`image: {{ include "helm_lib_module_image" (list . "vmRouter") }}`: -1,
		`{{ if has "node-manager" (.Values.global.enabledModules) }}`:      -1,
		"mountPath: /sys/devices\n":                                        -1,
		`{"type": "timeseries", "expr": "rate(a[$__rate_interval])"}`:      -1,
	} {
		got := slices.IndexFunc(slips, func(s slip) bool { return s.found.MatchString(text) })
		if got != want {
			t.Errorf("%s: found by %d, want %d", text, got, want)
		}
	}
}

// Requests wait for who answers a webhook, so that it has to run before the server
// learns of the webhook.
func TestWebhooksComeLast(t *testing.T) {
	webhooks := 0
	object := regexp.MustCompile(`(?m)^kind: (Validating|Mutating)WebhookConfiguration$`)
	for _, file := range files(t, ".yaml") {
		if !strings.HasPrefix(file, "templates/") {
			continue
		}
		for _, document := range strings.Split(read(t, file), "\n---") {
			if !object.MatchString(document) {
				continue
			}
			webhooks++
			if !strings.Contains(document, "werf.io/weight:") && !strings.Contains(document, "werf.io/deploy-dependency") {
				t.Errorf("%s: a webhook has no weight", file)
			}
		}
	}
	if webhooks < 4 {
		t.Errorf("only %d webhooks were found", webhooks)
	}
}

// The linter looks for the very words.
func TestMonitoringIsTakenIn(t *testing.T) {
	text := read(t, "templates/monitoring.yaml")
	for _, words := range []string{`include "helm_lib_prometheus_rules`, `include "helm_lib_grafana_dashboard_definitions`} {
		if !strings.Contains(text, words) {
			t.Errorf("templates/monitoring.yaml has no %s", words)
		}
	}
}

// An alert that is its own group is delivered to nobody.
func TestAlertsAreNotTheirOwnGroups(t *testing.T) {
	alerts := 0
	for _, file := range files(t, ".yaml") {
		if !strings.HasPrefix(file, "monitoring/prometheus-rules/") {
			continue
		}
		var groups []struct {
			Rules []struct {
				Alert       string            `json:"alert"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		}
		parse(t, file, &groups)
		for _, group := range groups {
			for _, rule := range group.Rules {
				alerts++
				for name, value := range rule.Annotations {
					of, _, _ := strings.Cut(value, ",")
					if strings.HasPrefix(name, "plk_") && strings.TrimSpace(of) == rule.Alert {
						t.Errorf("%s: %s is grouped into itself", file, rule.Alert)
					}
				}
			}
		}
	}
	if alerts < 30 {
		t.Errorf("only %d alerts were found", alerts)
	}
}

// The linter sees pods of the chart alone; an exception that one of them names needs no exclusion.
func TestExcludedExceptionsAreOfOperators(t *testing.T) {
	exceptions := map[string]bool{}
	for _, file := range files(t, ".yaml") {
		text := read(t, file)
		if strings.HasPrefix(file, "templates/") && strings.Contains(text, "\nkind: SecurityPolicyException\n") {
			exceptions[regexp.MustCompile(`(?m)^  name: (\S+)$`).FindStringSubmatch(text)[1]] = true
		}
	}
	for _, file := range files(t, ".yaml") {
		for _, named := range regexp.MustCompile(`"security\.deckhouse\.io/security-policy-exception" "(\S+)"`).FindAllStringSubmatch(read(t, file), -1) {
			delete(exceptions, named[1])
		}
	}
	unnamed := slices.Sorted(maps.Keys(exceptions))
	if got := excluded(t).Settings.Container.Exclude.UnusedExceptions; !slices.Equal(got, unnamed) {
		t.Errorf(".dmtlint.yaml excludes %q, want %q", got, unnamed)
	}
}
