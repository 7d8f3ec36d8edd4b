// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"sync"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/component-base/metrics/legacyregistry"
)

// streamMetrics count streams by their name. How many were refused is in
// apiserver_request_total, as for every request.
type streamMetrics struct {
	open   *prometheus.GaugeVec
	opened *prometheus.CounterVec
}

func newStreamMetrics() *streamMetrics {
	label := []string{"stream"}
	return &streamMetrics{
		open: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "d8_virtualization_api_open_streams",
			Help: "Streams to guests that are open at this replica: console, vnc, portforward.",
		}, label),
		opened: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "d8_virtualization_api_opened_streams_total",
			Help: "Streams to guests that were opened at this replica since it started.",
		}, label),
	}
}

// served are the metrics of this program. They are in the registry that the API server's
// library shows at /metrics, of which a program has one.
var served = sync.OnceValue(func() *streamMetrics {
	m := newStreamMetrics()
	legacyregistry.RawMustRegister(m.open, m.opened)
	return m
})

// expect makes the series of a stream, so that they are there before it is first opened.
func (m *streamMetrics) expect(stream string) {
	m.open.WithLabelValues(stream)
	m.opened.WithLabelValues(stream)
}

// begin counts a stream; what it returns is to be called at its end.
func (m *streamMetrics) begin(stream string) (end func()) {
	m.opened.WithLabelValues(stream).Inc()
	open := m.open.WithLabelValues(stream)
	open.Inc()
	return open.Dec
}
