// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// scrape writes what a registry tells as a line for each value.
func scrape(t *testing.T, registry prometheus.Gatherer) string {
	t.Helper()
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, family := range families {
		for _, metric := range family.Metric {
			var labels []string
			for _, label := range metric.Label {
				labels = append(labels, label.GetName()+"="+label.GetValue())
			}
			lines = append(lines, fmt.Sprintf("%s{%s} %g", family.GetName(), strings.Join(labels, ","), metric.Gauge.GetValue()))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

// The registry of a process that leads tells how full each range is; before and after
// it tells nothing.
func TestUsageMetrics(t *testing.T) {
	r := testReconciler(t, nothing, heldLease("ip-10-66-10-1", "team", "web", "x"), heldLease("ip-10-66-10-2", "team", "", ""), heldLease("ip-10-99-0-1", "team", "db", "y"))
	registry := prometheus.NewRegistry()
	metrics := &usageMetrics{addresses: r.addresses, direct: r.direct, registry: registered{registry, make(chan struct{}, 1)}}
	if !metrics.NeedLeaderElection() {
		t.Error("a replica that does not lead tells of an empty pool")
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- metrics.Start(ctx) }()
	<-metrics.registry.(registered).done

	want := `d8_virtualization_ip_pool_size_addresses{cidr=10.66.10.0/29} 6
d8_virtualization_ip_pool_used_addresses{cidr=10.66.10.0/29,state=held} 1
d8_virtualization_ip_pool_used_addresses{cidr=10.66.10.0/29,state=released} 1`
	if got := scrape(t, registry); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	r.addresses.note(heldLease("ip-10-66-10-3", "team", "mail", "z"))
	if got := scrape(t, registry); !strings.Contains(got, "{cidr=10.66.10.0/29,state=held} 2") {
		t.Errorf("does not follow: %s", got)
	}
	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if got := scrape(t, registry); got != "" {
		t.Errorf("still tells %s", got)
	}
}

// registered tells when the collector is there.
type registered struct {
	prometheus.Registerer
	done chan struct{}
}

func (r registered) Register(c prometheus.Collector) error {
	defer func() { r.done <- struct{}{} }()
	return r.Registerer.Register(c)
}

// A server that does not answer takes nothing away but the first numbers.
func TestUsageMetricsWithoutAServer(t *testing.T) {
	registry := prometheus.NewRegistry()
	metrics := &usageMetrics{addresses: testBook(t), direct: silent{}, registry: registry}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := metrics.Start(ctx); err != nil {
		t.Error(err)
	}
	registry.MustRegister(usageCollector{metrics.addresses.Allocator})
	if err := metrics.Start(ctx); err == nil {
		t.Error("two collectors of the same metrics")
	}
}

// silent fails every read.
type silent struct{ client.Reader }

func (silent) List(context.Context, client.ObjectList, ...client.ListOption) error {
	return context.DeadlineExceeded
}
