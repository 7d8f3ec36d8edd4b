// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server

import (
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"
)

var fullStorageRefusals = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "dvcr_storage_full_total",
	Help: "Requests refused because the volume that holds the images was full.",
})

// requestFailures does not count the refusals above, which have a remedy of their own.
var requestFailures = prometheus.NewCounter(prometheus.CounterOpts{
	Name: "dvcr_request_failures_total",
	Help: "Requests that failed for a cause of the registry's own, such as a storage that does not answer.",
})

// Collectors returns the registry's own metrics, with those for the volume of root unless that is empty.
func Collectors(root string) []prometheus.Collector {
	if root == "" {
		return []prometheus.Collector{fullStorageRefusals, requestFailures}
	}
	return []prometheus.Collector{fullStorageRefusals, requestFailures, &storageCollector{root: root}}
}

var (
	storageSize = prometheus.NewDesc("dvcr_storage_size_bytes",
		"Size of the volume that holds the images.", nil, nil)
	storageUsed = prometheus.NewDesc("dvcr_storage_used_bytes",
		"Space taken on the volume that holds the images.", nil, nil)
	storageAvailable = prometheus.NewDesc("dvcr_storage_available_bytes",
		"Space left on the volume that holds the images.", nil, nil)
)

// storageCollector asks the volume at scrape time, so nothing runs in between.
type storageCollector struct {
	root string
}

// Describe implements prometheus.Collector.
func (c *storageCollector) Describe(descs chan<- *prometheus.Desc) {
	descs <- storageSize
	descs <- storageUsed
	descs <- storageAvailable
}

// Collect implements prometheus.Collector.
func (c *storageCollector) Collect(metrics chan<- prometheus.Metric) {
	var stat unix.Statfs_t
	if err := unix.Statfs(c.root, &stat); err != nil {
		metrics <- prometheus.NewInvalidMetric(storageSize, err)
		return
	}
	block := float64(stat.Bsize)
	metrics <- prometheus.MustNewConstMetric(storageSize, prometheus.GaugeValue, float64(stat.Blocks)*block)
	metrics <- prometheus.MustNewConstMetric(storageUsed, prometheus.GaugeValue, float64(stat.Blocks-stat.Bfree)*block)
	metrics <- prometheus.MustNewConstMetric(storageAvailable, prometheus.GaugeValue, float64(stat.Bavail)*block)
}
