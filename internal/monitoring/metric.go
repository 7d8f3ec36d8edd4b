// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
)

// prefix begins the names of all metrics of the module.
const prefix = "d8_virtualization_"

// Metric is what the module tells of one thing. All of them are gauges.
type Metric struct {
	// Name is the whole name, Help what it means and in which unit.
	Name, Help string
	// Labels are the names of its labels; of those that copy an object's labels there
	// may be more.
	Labels []string

	desc *prometheus.Desc
}

// all are the metrics of this package, in the order in which they are written down.
var all []*Metric

// Metrics lists what this package tells, for the page about it.
func Metrics() []Metric {
	var list []Metric
	for _, metric := range all {
		list = append(list, *metric)
	}
	return list
}

// Labels that many metrics share.
const (
	labelNamespace = "namespace"
	labelName      = "name"
	labelUID       = "uid"
	labelNode      = "node"
)

// Labels by which an object is known: in a namespace, in the whole cluster, and a
// machine, whose node is what people look for next.
var (
	namespaced  = []string{labelNamespace, labelName}
	clusterwide = []string{labelName}
	ofMachine   = []string{labelNamespace, labelName, labelUID, labelNode}
)

// newMetric registers a metric for the list of all; its name is given without the prefix.
func newMetric(name, help string, object []string, labels ...string) *Metric {
	labels = slices.Concat(object, labels)
	metric := &Metric{
		Name: prefix + name, Help: help, Labels: labels,
		desc: prometheus.NewDesc(prefix+name, help, labels, nil),
	}
	all = append(all, metric)
	return metric
}

// sink takes the values of one scrape.
type sink chan<- prometheus.Metric

// put tells a value; the labels' values come in the order of their names.
func (s sink) put(metric *Metric, value float64, labels ...string) {
	s <- prometheus.MustNewConstMetric(metric.desc, prometheus.GaugeValue, value, labels...)
}

// known are the values of the labels by which an object is known. Appending to it
// never changes what another metric was told with.
func known(values ...string) []string { return slices.Clip(values) }

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
