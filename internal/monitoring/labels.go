// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"maps"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
)

// putLabels tells the labels of an object the way kube-state-metrics does. Of two whose
// names differ only in what Prometheus does not allow, the one that sorts first is told.
func putLabels(out sink, metric *Metric, objects map[string]string, known ...string) {
	names, values := slices.Clone(metric.Labels), slices.Clone(known)
	for _, name := range slices.Sorted(maps.Keys(objects)) {
		told := "label_" + strings.Map(allowed, name)
		if !slices.Contains(names, told) {
			names, values = append(names, told), append(values, objects[name])
		}
	}
	if len(names) == len(metric.Labels) {
		return
	}
	desc := prometheus.NewDesc(metric.Name, metric.Help, names, nil)
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, 1, values...)
}

// allowed makes an underscore of what the name of a label may not hold.
func allowed(r rune) rune {
	if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
		return r
	}
	return '_'
}
