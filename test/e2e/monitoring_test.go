// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/kubernetes"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"
)

// metricsFile lists what alerts and dashboards may ask for. The tests of the chart hold both against it.
const metricsFile = "../render/testdata/metrics.yaml"

// TestMonitoring asks the cluster's Prometheus what alerts and dashboards would ask it: about the module, and about the
// machine of the quick start.
func TestMonitoring(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	p := newPrometheus(t)
	t.Run("rules are evaluated", func(t *testing.T) { checkRules(ctx, t, p) })
	t.Run("metrics exist", func(t *testing.T) { checkMetrics(ctx, t, p) })
	t.Run("dashboards show something", func(t *testing.T) { checkDashboards(ctx, t, p) })
}

// prometheusServer is asked through the API server.
type prometheusServer struct{ client kubernetes.Interface }

func newPrometheus(t *testing.T) *prometheusServer {
	t.Helper()
	config, err := ctrl.GetConfig()
	if err != nil {
		t.Fatal(err)
	}
	return &prometheusServer{client: kubernetes.NewForConfigOrDie(config)}
}

func (p *prometheusServer) get(ctx context.Context, path string, parameters map[string]string, into any) error {
	raw, err := p.client.CoreV1().Services("d8-monitoring").ProxyGet("http", "prometheus", "9090", "api/v1/"+path, parameters).DoRaw(ctx)
	if err != nil {
		return fmt.Errorf("%s %v: %w: %s", path, parameters, err, raw)
	}
	return json.Unmarshal(raw, &struct{ Data any }{Data: into})
}

// query tells how many series the answer has.
func (p *prometheusServer) query(ctx context.Context, expr string) (int, error) {
	var answer struct{ Result []any }
	err := p.get(ctx, "query", map[string]string{"query": expr}, &answer)
	return len(answer.Result), err
}

// settles repeats a check whose problems may be those of a module that was started a moment ago: its targets have to be
// found, and then to be asked a few times.
func settles(ctx context.Context, t *testing.T, check func() []string) {
	t.Helper()
	limit := time.Now().Add(2 * time.Minute)
	for {
		problems := check()
		if len(problems) == 0 {
			return
		}
		if time.Now().After(limit) || ctx.Err() != nil {
			t.Fatal(strings.Join(problems, "\n"))
		}
		time.Sleep(3 * time.Second)
	}
}

// Prometheus has every alert of the module, and each can be evaluated with what it has.
func checkRules(ctx context.Context, t *testing.T, p *prometheusServer) {
	var wanted []string
	for _, rules := range listed(ctx, t, "monitoring.coreos.com/v1", "PrometheusRule") {
		groups, _, _ := unstructured.NestedSlice(rules.Object, "spec", "groups")
		for _, group := range groups {
			listedRules, _, _ := unstructured.NestedSlice(group.(map[string]any), "rules")
			for _, rule := range listedRules {
				wanted = append(wanted, rule.(map[string]any)["alert"].(string))
			}
		}
	}
	if len(wanted) < 20 {
		t.Fatalf("the module has the alerts %v only", wanted)
	}
	settles(ctx, t, func() []string {
		var answer struct {
			Groups []struct {
				Rules []struct{ Name, Health, LastError string }
			}
		}
		if err := p.get(ctx, "rules", nil, &answer); err != nil {
			return []string{err.Error()}
		}
		health := map[string]string{}
		for _, group := range answer.Groups {
			for _, rule := range group.Rules {
				health[rule.Name] = strings.TrimSpace(rule.Health + " " + rule.LastError)
			}
		}
		var problems []string
		for _, name := range wanted {
			if health[name] != "ok" {
				problems = append(problems, fmt.Sprintf("%s: %q", name, health[name]))
			}
		}
		return problems
	})
}

// alwaysThere are the metrics that a cluster with a machine has.
func alwaysThere(t *testing.T) (always, others []string) {
	t.Helper()
	content, err := os.ReadFile(metricsFile)
	if err != nil {
		t.Fatal(err)
	}
	var names struct {
		Always    []string
		Sometimes map[string]string
		Platform  []string
	}
	if err := yaml.Unmarshal(content, &names); err != nil {
		t.Fatal(err)
	}
	for name := range names.Sometimes {
		others = append(others, name)
	}
	return names.Always, append(others, names.Platform...)
}

func checkMetrics(ctx context.Context, t *testing.T, p *prometheusServer) {
	always, _ := alwaysThere(t)
	settles(ctx, t, func() []string {
		var known []string
		if err := p.get(ctx, "label/__name__/values", nil, &known); err != nil {
			return []string{err.Error()}
		}
		var problems []string
		for _, name := range always {
			if !slices.Contains(known, name) {
				problems = append(problems, "nothing has the metric "+name)
			}
		}
		return problems
	})
}

// grafana puts the machine of the quick start in the place of what is chosen in Grafana.
var grafana = strings.NewReplacer("$__rate_interval", "2m", "$namespace", "quickstart", "$machine", "hello")

// Each query is understood, and those that ask only for what is always there get an answer.
func checkDashboards(ctx context.Context, t *testing.T, p *prometheusServer) {
	_, others := alwaysThere(t)
	sometimes := regexp.MustCompile(`\b(` + strings.Join(others, "|") + `)\b`)
	queries := shownQueries(ctx, t)
	if len(queries) < 100 {
		t.Fatalf("the dashboards ask %d times only", len(queries))
	}
	settles(ctx, t, func() []string {
		var problems []string
		for expr, where := range queries {
			series, err := p.query(ctx, grafana.Replace(expr))
			switch {
			case err != nil:
				problems = append(problems, fmt.Sprintf("%s: %v", where, err))
			case series == 0 && !sometimes.MatchString(expr):
				problems = append(problems, fmt.Sprintf("%s: no answer to %s", where, expr))
			default:
				delete(queries, expr)
			}
		}
		return problems
	})
}

// shownQueries are the queries of all panels, and the panel that each is of.
func shownQueries(ctx context.Context, t *testing.T) map[string]string {
	t.Helper()
	queries := map[string]string{}
	for _, object := range listed(ctx, t, "deckhouse.io/v1", "GrafanaDashboardDefinition") {
		definition, _, _ := unstructured.NestedString(object.Object, "spec", "definition")
		var dashboard struct {
			Panels []struct {
				Title   string
				Targets []struct{ Expr string }
			}
		}
		if err := json.Unmarshal([]byte(definition), &dashboard); err != nil {
			t.Fatalf("%s: %v", object.GetName(), err)
		}
		for _, panel := range dashboard.Panels {
			for _, target := range panel.Targets {
				queries[target.Expr] = object.GetName() + ", " + panel.Title
			}
		}
	}
	return queries
}

// listed are the module's objects of a kind.
func listed(ctx context.Context, t *testing.T, version, kind string) []unstructured.Unstructured {
	t.Helper()
	list := &unstructured.UnstructuredList{}
	list.SetGroupVersionKind(schema.FromAPIVersionAndKind(version, kind+"List"))
	if err := kube.List(ctx, list, client.MatchingLabels{"module": "virtualization"}); err != nil {
		t.Fatal(err)
	}
	return list.Items
}
