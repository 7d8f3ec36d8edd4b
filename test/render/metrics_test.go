// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"sigs.k8s.io/yaml"
)

// metricNames is the list of metrics that expressions may name, see testdata/metrics.yaml.
type metricNames map[string]bool

func knownMetrics(t *testing.T) metricNames {
	t.Helper()
	content, err := os.ReadFile(filepath.Join("testdata", "metrics.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Always    []string          `json:"always"`
		Sometimes map[string]string `json:"sometimes"`
		Platform  []string          `json:"platform"`
	}
	if err := yaml.UnmarshalStrict(content, &file); err != nil {
		t.Fatal(err)
	}
	known := metricNames{}
	for _, name := range slices.Concat(file.Always, slices.Collect(maps.Keys(file.Sometimes)), file.Platform) {
		if known[name] {
			t.Errorf("%s is listed twice", name)
		}
		known[name] = true
	}
	return known
}

// grafana stands in for what Grafana puts in the place of its variables.
var grafana = strings.NewReplacer("$__rate_interval", "5m", "$namespace", "team", "$machine", "web")

// variable is one of Grafana's; $1 is Prometheus' own.
var variable = regexp.MustCompile(`\$[a-zA-Z_{]`)

// selected returns the metrics that an expression asks for.
func selected(expr string) ([]string, error) {
	expression, err := parser.ParseExpr(grafana.Replace(expr))
	if err != nil {
		return nil, err
	}
	var names []string
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		if selector, ok := node.(*parser.VectorSelector); ok {
			names = append(names, selector.Name)
		}
		return nil
	})
	return names, nil
}

// problems says what is wrong with an expression.
func (known metricNames) problems(expr string) []string {
	names, err := selected(expr)
	if err != nil {
		return []string{err.Error()}
	}
	var problems []string
	for _, name := range names {
		if !known[name] {
			problems = append(problems, fmt.Sprintf("testdata/metrics.yaml does not know the metric %s", name))
		}
	}
	if variable.MatchString(grafana.Replace(expr)) {
		problems = append(problems, "a variable that no dashboard has in "+expr)
	}
	return problems
}

// A check that lets everything through would let these through, too.
func TestProblemsOfExpressions(t *testing.T) {
	tests := []struct{ expr, want string }{
		{expr: `sum by (job) (rate(up[$__rate_interval]))`},
		{expr: `up{job="$namespace"} == 0`},
		{expr: `sum(up`, want: "parse error"},
		{expr: `count(down)`, want: "does not know the metric down"},
		{expr: `absent(up) or vector(1) unless gone`, want: "does not know the metric gone"},
		{expr: `up{node="$node"}`, want: "a variable that no dashboard has"},
	}
	known := metricNames{"up": true}
	for _, test := range tests {
		got := strings.Join(known.problems(test.expr), "; ")
		if (test.want == "") != (got == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", test.expr, got, test.want)
		}
	}
}

// The list is what is looked for in a running Prometheus: it must not grow beyond what is asked for.
func TestKnownMetricsAreUsed(t *testing.T) {
	unused := knownMetrics(t)
	objects := render(t, Case{})
	var expressions []string
	for _, rule := range alerts(t, objects) {
		expressions = append(expressions, rule.Expr)
	}
	for _, shown := range dashboards(t, objects) {
		expressions = append(expressions, shown.expressions()...)
	}
	for _, expr := range expressions {
		names, err := selected(expr)
		if err != nil {
			t.Fatalf("%s: %v", expr, err)
		}
		for _, name := range names {
			delete(unused, name)
		}
	}
	for name := range unused {
		t.Errorf("no alert and no dashboard asks for %s", name)
	}
}
