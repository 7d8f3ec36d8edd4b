// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// documented are the rows of a page: what is written beside the name of each metric.
func documented(t *testing.T, file string) map[string][]string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", file))
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z0-9_]+)` \\| (.*) \\| (.+) \\|$").FindAllStringSubmatch(string(text), -1) {
		if _, twice := rows[row[1]]; twice {
			t.Errorf("%s: %s is there twice", file, row[1])
		}
		rows[row[1]] = row[2:]
	}
	return rows
}

// The pages name every metric with its labels, in the words that Prometheus shows, and
// none that is not there.
func TestMetricsAreDocumented(t *testing.T) {
	english, russian := documented(t, "METRICS.md"), documented(t, "METRICS.ru.md")
	known := map[string]bool{}
	for _, metric := range Metrics() {
		known[metric.Name] = true
		labels := ""
		if len(metric.Labels) > 0 {
			labels = "`" + strings.Join(metric.Labels, "`, `") + "`"
		}
		if row := english[metric.Name]; row == nil || row[0] != labels || row[1] != metric.Help {
			t.Errorf("METRICS.md: %s: got %q, want %s and %q", metric.Name, row, labels, metric.Help)
		}
	}
	for name, row := range english {
		if twin := russian[name]; twin == nil || twin[0] != row[0] {
			t.Errorf("METRICS.ru.md: %s has the labels %q, want %s", name, twin, row[0])
		}
		// These are counted by other programs and hooks, and by the address pool and the streams.
		elsewhere := strings.HasPrefix(name, "dvcr_") || strings.HasPrefix(name, prefix+"router_") ||
			strings.HasPrefix(name, prefix+"ip_pool_") || strings.HasPrefix(name, prefix+"api_") ||
			strings.HasPrefix(name, prefix+"certificate_") || strings.HasPrefix(name, prefix+"requirement_")
		if !known[name] && !elsewhere {
			t.Errorf("METRICS.md: nobody tells %s", name)
		}
	}
	if len(russian) != len(english) {
		t.Errorf("%d metrics in Russian, %d in English", len(russian), len(english))
	}
}
