// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"
)

const monitorText = `
apiVersion: monitoring.coreos.com/v1
kind: PodMonitor
metadata: {name: router, namespace: d8-monitoring, labels: {prometheus: main}}
spec:
  selector: {matchLabels: {app: vm-router, example.com/part: a.b}}
  namespaceSelector: {matchNames: [d8-virtualization]}
  podMetricsEndpoints:
    - port: metrics
      path: /metrics
      scheme: https
      tlsConfig: {insecureSkipVerify: true}
      bearerTokenSecret: {name: prometheus-token, key: token}
      honorLabels: true
      relabelings:
        - {action: labeldrop, regex: namespace|container}
        - {targetLabel: job, replacement: vm-router}
        - {targetLabel: node, sourceLabels: [__meta_kubernetes_pod_node_name]}
`

const ruleText = `
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: rules, namespace: d8-virtualization}
spec:
  groups:
    - name: d8.virtualization.router
      rules: [{alert: RouterDown, expr: 'up{job="vm-router"} == 0', for: 5m}]
`

func parse(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	object := &unstructured.Unstructured{}
	if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
		t.Fatal(err)
	}
	return object
}

// changed is the monitor with one text replaced.
func changed(t *testing.T, from, to string) *unstructured.Unstructured {
	t.Helper()
	if !strings.Contains(monitorText, from) {
		t.Fatalf("the monitor has no %q", from)
	}
	return parse(t, strings.Replace(monitorText, from, to, 1))
}

func tokens(namespace, name, key string) (string, error) {
	if name != "prometheus-token" {
		return "", fmt.Errorf("no Secret %s/%s", namespace, name)
	}
	return "the " + key + " in " + namespace, nil
}

const routerScrape = `- authorization:
    credentials: the token in d8-monitoring
  honor_labels: true
  job_name: podMonitor/d8-monitoring/router/0
  kubernetes_sd_configs:
  - namespaces:
      names:
      - d8-virtualization
    role: pod
  metrics_path: /metrics
  relabel_configs:
  - action: keep
    regex: vm-router
    source_labels:
    - __meta_kubernetes_pod_label_app
  - action: keep
    regex: a\.b
    source_labels:
    - __meta_kubernetes_pod_label_example_com_part
  - action: keep
    regex: metrics
    source_labels:
    - __meta_kubernetes_pod_container_port_name
  - source_labels:
    - __meta_kubernetes_namespace
    target_label: namespace
  - source_labels:
    - __meta_kubernetes_pod_container_name
    target_label: container
  - source_labels:
    - __meta_kubernetes_pod_name
    target_label: pod
  - replacement: d8-monitoring/router
    target_label: job
  - replacement: metrics
    target_label: endpoint
  - action: labeldrop
    regex: namespace|container
  - replacement: vm-router
    target_label: job
  - source_labels:
    - __meta_kubernetes_pod_node_name
    target_label: node
  scheme: https
  tls_config:
    insecure_skip_verify: true
`

func TestScrapesOfAMonitor(t *testing.T) {
	scrapes, err := scrapesOf(parse(t, monitorText), tokens)
	if err != nil {
		t.Fatal(err)
	}
	got, err := yaml.Marshal(scrapes)
	if err != nil || string(got) != routerScrape {
		t.Errorf("got\n%s\n%v, want\n%s", got, err, routerScrape)
	}
}

func TestMonitorsThatCannotBeUsed(t *testing.T) {
	for name, tc := range map[string]struct{ from, to, want string }{
		"a field that is not known":  {"honorLabels: true", "honourLabels: true", `unknown field "podMetricsEndpoints[0].honourLabels"`},
		"a field of another case":    {"scheme: https", "Scheme: https", `unknown field "podMetricsEndpoints[0].Scheme"`},
		"a field of the wrong type":  {"honorLabels: true", "honorLabels: certainly", "PodMonitor d8-monitoring/router: "},
		"pods by expressions":        {"matchLabels: {app: vm-router, example.com/part: a.b}", "matchExpressions: [{key: app, operator: Exists}]", "want matchLabels of pods"},
		"pods of every namespace":    {"{matchNames: [d8-virtualization]}", "{}", "matchNames of namespaces"},
		"a Secret that is not there": {"name: prometheus-token", "name: other", "PodMonitor d8-monitoring/router: no Secret d8-monitoring/other"},
	} {
		t.Run(name, func(t *testing.T) {
			scrapes, err := scrapesOf(changed(t, tc.from, tc.to), tokens)
			if err == nil || !strings.Contains(err.Error(), tc.want) || len(scrapes) > 0 {
				t.Errorf("got %v and %d scrapes, want %q", err, len(scrapes), tc.want)
			}
		})
	}
}

func TestRender(t *testing.T) {
	bad := changed(t, "honorLabels: true", "honourLabels: true")
	files, err := Render([]*unstructured.Unstructured{bad, parse(t, monitorText)}, []*unstructured.Unstructured{parse(t, ruleText), parse(t, "{kind: PrometheusRule, metadata: {name: empty, namespace: team}}")}, tokens)
	if err == nil || !strings.Contains(err.Error(), "honourLabels") || !strings.Contains(err.Error(), "PrometheusRule team/empty has no groups") {
		t.Errorf("got error %v", err)
	}
	if len(files) != 2 {
		t.Errorf("%d files, want the configuration and the rules", len(files))
	}
	wantRules := `groups:
- name: d8.virtualization.router
  rules:
  - alert: RouterDown
    expr: up{job="vm-router"} == 0
    for: 5m
`
	if got := string(files["rules/d8-virtualization-rules.yaml"]); got != wantRules {
		t.Errorf("rules are\n%s", got)
	}
	var made struct {
		Global  map[string]string `json:"global"`
		Rules   []string          `json:"rule_files"`
		Scrapes []struct {
			Name   string `json:"job_name"`
			Path   string `json:"metrics_path"`
			Static []struct {
				Targets []string `json:"targets"`
			} `json:"static_configs"`
		} `json:"scrape_configs"`
	}
	if err := yaml.Unmarshal(files["prometheus.yml"], &made); err != nil {
		t.Fatal(err)
	}
	var jobs []string
	for _, scrape := range made.Scrapes {
		jobs = append(jobs, scrape.Name)
		// What hooks found out is told by Deckhouse, beside what it tells of itself.
		if scrape.Name == "deckhouse" && (scrape.Path != "/metrics/hooks" || scrape.Static[0].Targets[0] != "10.77.0.254:4291") {
			t.Errorf("hooks are asked at %v%s", scrape.Static, scrape.Path)
		}
	}
	// What the bad monitor asks for is left out, and nothing else.
	if got := strings.Join(jobs, " "); got != "cadvisor deckhouse kubelet prometheus podMonitor/d8-monitoring/router/0" {
		t.Errorf("scrapes are %s", got)
	}
	if made.Rules[0] != "rules/*.yaml" || made.Global["scrape_interval"] != made.Global["evaluation_interval"] {
		t.Errorf("rules in %v, settings %v", made.Rules, made.Global)
	}
}

func TestWrite(t *testing.T) {
	dir := t.TempDir()
	step := func(name string, files Files, want bool) {
		t.Helper()
		if got, err := files.Write(dir); err != nil || got != want {
			t.Errorf("%s: changed %v, %v, want %v", name, got, err, want)
		}
	}
	both := Files{"prometheus.yml": []byte("a"), "rules/one.yaml": []byte("b"), "rules/two.yaml": []byte("c")}
	step("the first time", both, true)
	step("once more", both, false)
	both["rules/two.yaml"] = []byte("d")
	step("another rule", both, true)
	delete(both, "rules/one.yaml")
	step("a rule less", both, true)
	if left, err := filepath.Glob(filepath.Join(dir, "rules", "*")); err != nil || len(left) != 1 || filepath.Base(left[0]) != "two.yaml" {
		t.Errorf("rules %v, %v", left, err)
	}
	if info, err := os.Stat(filepath.Join(dir, "prometheus.yml")); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("everybody reads the token: %v, %v", info.Mode(), err)
	}
	if _, err := both.Write(filepath.Join(dir, "prometheus.yml")); err == nil {
		t.Error("a file is no folder")
	}
}
