// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/utils/clock"
)

// step is a part of a comparison that can fail.
type step string

const (
	stepObserve step = "observe"
	stepDump    step = "dump"
	stepSet     step = "set"
	stepRemove  step = "remove"
	stepRules   step = "rules"
	stepReport  step = "report"
)

// causeMigration marks the seconds that guests could not be reached while they moved;
// the other causes are the Reasons.
const causeMigration = "Migration"

var (
	routesDesc = prometheus.NewDesc("d8_virtualization_router_routes",
		"Routes that the node should have, by kind: Local, Device, Remote, Blackhole.", []string{"kind"}, nil)
	unroutedDesc = prometheus.NewDesc("d8_virtualization_router_unrouted_machines",
		"Running machines that have no route on the node, by reason.", []string{"reason"}, nil)
	unreachableDesc = prometheus.NewDesc("d8_virtualization_router_unreachable_seconds_total",
		"Seconds, summed over machines, that running machines could not be reached from the node: by the reason for which there was no route, or Migration.", []string{"cause"}, nil)
	networkDesc = prometheus.NewDesc("d8_virtualization_router_network_info",
		"How machines on other nodes are reached: Cilium or NodeAddresses. The value is 1.", []string{"network"}, nil)
)

// Metrics are the router's own. Time without a route goes on between comparisons, so
// it is counted up to the moment of the scrape.
type Metrics struct {
	clock      clock.PassiveClock
	reconciles *prometheus.CounterVec
	changes    *prometheus.CounterVec
	errors     *prometheus.CounterVec
	moves      *prometheus.HistogramVec

	mu       sync.Mutex
	network  Network
	routes   map[RouteKind]int
	unrouted map[Reason]int
	lost     map[string]time.Duration
	since    time.Time
}

// NewMetrics returns metrics that have counted nothing yet.
func NewMetrics(now clock.PassiveClock) *Metrics {
	m := &Metrics{
		clock: now, since: now.Now(), lost: map[string]time.Duration{},
		reconciles: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "d8_virtualization_router_reconciles_total",
			Help: "Comparisons of the node's routes with what they should be, by result: success or failure.",
		}, []string{"result"}),
		changes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "d8_virtualization_router_changes_total",
			Help: "Routes that were changed, by action: set or remove.",
		}, []string{"action"}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "d8_virtualization_router_errors_total",
			Help: "What failed, by step: observe, dump, set, remove, rules, report.",
		}, []string{"step"}),
		moves: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "d8_virtualization_router_migration_unreachable_seconds",
			Help:    "How long a guest that moved from the node did not answer, by result: Moved, Stayed (the migration failed), Lost (it has not answered since). Guests that never answer echo requests are not counted.",
			Buckets: []float64{0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60},
		}, []string{"result"}),
	}
	// A label that has not been seen must read 0: an alert on its increase would miss
	// the first.
	for _, result := range []string{"success", "failure"} {
		m.reconciles.WithLabelValues(result)
	}
	for _, action := range []step{stepSet, stepRemove} {
		m.changes.WithLabelValues(string(action))
	}
	for _, failed := range []step{stepObserve, stepDump, stepSet, stepRemove, stepRules, stepReport} {
		m.errors.WithLabelValues(string(failed))
	}
	for _, result := range []MoveResult{MoveMoved, MoveStayed, MoveLost} {
		m.moves.WithLabelValues(string(result))
	}
	return m
}

// Reconciled notes the outcome of a comparison that was made at the given time.
func (m *Metrics) Reconciled(now time.Time, network Network, want Wanted, err error) {
	result := "success"
	if err != nil {
		result = "failure"
	}
	m.reconciles.WithLabelValues(result).Inc()
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(now)
	m.network, m.routes, m.unrouted = network, map[RouteKind]int{}, map[Reason]int{}
	for _, route := range want.Routes {
		m.routes[route.Kind]++
	}
	for _, unrouted := range want.Unrouted {
		m.unrouted[unrouted.Reason]++
	}
}

// settle adds the time since the last look for each machine that had no route.
func (m *Metrics) settle(now time.Time) {
	for reason, machines := range m.unrouted {
		m.lost[string(reason)] += time.Duration(machines) * now.Sub(m.since)
	}
	m.since = now
}

// Moved notes how long a guest could not be reached while it moved.
func (m *Metrics) Moved(result MoveResult, lost time.Duration) {
	m.moves.WithLabelValues(string(result)).Observe(lost.Seconds())
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lost[causeMigration] += lost
}

func (m *Metrics) failed(at step) { m.errors.WithLabelValues(string(at)).Inc() }

func (m *Metrics) changed(action step) { m.changes.WithLabelValues(string(action)).Inc() }

// Describe implements prometheus.Collector.
func (m *Metrics) Describe(descs chan<- *prometheus.Desc) {
	for _, vector := range []prometheus.Collector{m.reconciles, m.changes, m.errors, m.moves} {
		vector.Describe(descs)
	}
	for _, desc := range []*prometheus.Desc{routesDesc, unroutedDesc, unreachableDesc, networkDesc} {
		descs <- desc
	}
}

// Collect implements prometheus.Collector.
func (m *Metrics) Collect(out chan<- prometheus.Metric) {
	for _, vector := range []prometheus.Collector{m.reconciles, m.changes, m.errors, m.moves} {
		vector.Collect(out)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.settle(m.clock.Now())
	for _, kind := range []RouteKind{RouteLocal, RouteDevice, RouteRemote, RouteBlackhole} {
		out <- prometheus.MustNewConstMetric(routesDesc, prometheus.GaugeValue, float64(m.routes[kind]), string(kind))
	}
	for _, reason := range reasons {
		out <- prometheus.MustNewConstMetric(unroutedDesc, prometheus.GaugeValue, float64(m.unrouted[reason]), string(reason))
		out <- prometheus.MustNewConstMetric(unreachableDesc, prometheus.CounterValue, m.lost[string(reason)].Seconds(), string(reason))
	}
	out <- prometheus.MustNewConstMetric(unreachableDesc, prometheus.CounterValue, m.lost[causeMigration].Seconds(), causeMigration)
	if m.network != "" {
		out <- prometheus.MustNewConstMetric(networkDesc, prometheus.GaugeValue, 1, string(m.network))
	}
}
