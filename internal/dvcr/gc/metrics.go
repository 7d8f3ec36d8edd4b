// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

var (
	runs = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dvcr_gc_runs_total",
		Help: "Collections of unused images, by result: success, or failure if something could not be examined or removed.",
	}, []string{"result"})
	freedBytes = prometheus.NewCounter(prometheus.CounterOpts{
		Name: "dvcr_gc_freed_bytes_total",
		Help: "Bytes of unused blobs and abandoned uploads that were removed.",
	})
	removedObjects = prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "dvcr_gc_removed_total",
		Help: "What was removed, by kind: blob, manifest, link, upload, repository.",
	}, []string{"kind"})
	duration = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dvcr_gc_duration_seconds",
		Help: "How long the last collection took.",
	})
	lastSuccess = prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "dvcr_gc_last_success_timestamp_seconds",
		Help: "When the last collection without any error ended; 0 before the first.",
	})
)

func init() {
	// A result that has not been seen must read 0: an alert on its increase
	// would miss the first.
	for _, result := range []string{"success", "failure"} {
		runs.WithLabelValues(result)
	}
	countRemoved(Report{})
}

// Collectors returns the metrics of this package.
func Collectors() []prometheus.Collector {
	return []prometheus.Collector{runs, freedBytes, removedObjects, duration, lastSuccess}
}

func observe(report Report, now time.Time, took time.Duration, err error) {
	result := "success"
	if err != nil {
		result = "failure"
	} else {
		lastSuccess.Set(float64(now.Unix()))
	}
	runs.WithLabelValues(result).Inc()
	duration.Set(took.Seconds())
	freedBytes.Add(float64(report.FreedBytes))
	countRemoved(report)
}

func countRemoved(report Report) {
	for kind, count := range map[string]int{
		"blob": report.Blobs, "manifest": report.Manifests, "link": report.Links,
		"upload": report.Uploads, "repository": report.Repositories,
	} {
		removedObjects.WithLabelValues(kind).Add(float64(count))
	}
}
