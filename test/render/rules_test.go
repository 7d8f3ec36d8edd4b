// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
)

// metrics are what the rules may ask for: d8_virtualization_ip_pool_ ones are of the controller
// (internal/controller/ipaddress), d8_virtualization_router_ ones of the router (internal/router), dvcr_ ones of the
// registry (internal/dvcr/server), the others are collected in every Deckhouse cluster.
var metrics = []string{
	"d8_virtualization_ip_pool_size_addresses", "d8_virtualization_ip_pool_used_addresses",
	"d8_virtualization_router_errors_total", "d8_virtualization_router_unrouted_machines",
	"dvcr_storage_available_bytes", "dvcr_storage_full_total", "dvcr_storage_size_bytes",
	"kube_pod_container_status_restarts_total", "kube_pod_status_phase",
	"kubelet_volume_stats_available_bytes", "kubelet_volume_stats_capacity_bytes",
}

type alert struct {
	Alert       string            `json:"alert"`
	Expr        string            `json:"expr"`
	For         string            `json:"for"`
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

func TestAlerts(t *testing.T) {
	tests := map[string]struct{ severity, wait string }{
		"D8VirtualizationAddressPoolLow":           {severity: "6", wait: "10m"},
		"D8VirtualizationAddressPoolExhausted":     {severity: "4", wait: "1m"},
		"D8VirtualizationDVCRSpaceLow":             {severity: "6", wait: "10m"},
		"D8VirtualizationDVCRFull":                 {severity: "4"},
		"D8VirtualizationImportNotStarted":         {severity: "6", wait: "15m"},
		"D8VirtualizationImportFailsAgainAndAgain": {severity: "7"},
		"D8VirtualizationMachineUnrouted":          {severity: "5", wait: "5m"},
		"D8VirtualizationRouterFails":              {severity: "5", wait: "15m"},
	}
	found := alerts(t, render(t, Case{}))
	if len(found) != len(tests) {
		t.Errorf("%d alerts, want %d", len(found), len(tests))
	}
	for name, want := range tests {
		rule, there := found[name]
		if !there {
			t.Errorf("no alert %s", name)
			continue
		}
		if rule.Labels["severity_level"] != want.severity || rule.For != want.wait {
			t.Errorf("%s: severity %s after %q, want %s after %q", name, rule.Labels["severity_level"], rule.For, want.severity, want.wait)
		}
	}
}

// A rule that Prometheus can't read stops all rules of its file, and one about a metric that nobody has never fires.
func TestAlertsAreExpressions(t *testing.T) {
	for name, rule := range alerts(t, render(t, Case{})) {
		expression, err := parser.ParseExpr(rule.Expr)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
			if selector, ok := node.(*parser.VectorSelector); ok && !slices.Contains(metrics, selector.Name) {
				t.Errorf("%s: nothing has the metric %s", name, selector.Name)
			}
			return nil
		})
	}
}

func TestAlertsTellWhatToDo(t *testing.T) {
	for name, rule := range alerts(t, render(t, Case{})) {
		for _, key := range []string{"summary", "description"} {
			if rule.Annotations[key] == "" {
				t.Errorf("%s has no %s", name, key)
			}
		}
		if !strings.Contains(rule.Annotations["description"], "d8 k ") {
			t.Errorf("%s names no command", name)
		}
		if rule.Annotations["plk_protocol_version"] != "1" || rule.Annotations["plk_markup_format"] != "markdown" {
			t.Errorf("%s lacks what the platform's notifications need: %v", name, rule.Annotations)
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
