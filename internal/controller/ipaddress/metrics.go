// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ipaddress

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/deckhouse/virtualization/internal/ipam"
)

var (
	sizeMetric = prometheus.NewDesc("d8_virtualization_ip_pool_size_addresses",
		"Addresses of a range of virtualMachineCIDRs that machines may get.", []string{"cidr"}, nil)
	usedMetric = prometheus.NewDesc("d8_virtualization_ip_pool_used_addresses",
		"Addresses of a range of virtualMachineCIDRs that are taken, by state: held by a VirtualMachineIPAddress, "+
			"or released and kept for their namespace for some minutes.", []string{"cidr", "state"}, nil)
)

// usageMetrics shows how full the pool is while the manager leads: a replica that
// does not follow the leases would tell of an empty pool.
type usageMetrics struct {
	addresses *addressBook
	direct    client.Reader
	registry  prometheus.Registerer
}

// Start implements manager.Runnable.
func (m *usageMetrics) Start(ctx context.Context) error {
	// Whatever failed here is tried again for the first claim, and the watch tells the
	// same a little later.
	if err := m.addresses.learn(ctx, m.direct); err != nil {
		log.FromContext(ctx).Error(err, "Reading how full the address pool is")
	}
	if err := m.registry.Register(usageCollector{m.addresses.Allocator}); err != nil {
		return err
	}
	<-ctx.Done()
	m.registry.Unregister(usageCollector{m.addresses.Allocator})
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (m *usageMetrics) NeedLeaderElection() bool { return true }

// usageCollector reads the allocator when it is scraped.
type usageCollector struct{ allocator *ipam.Allocator }

// Describe implements prometheus.Collector.
func (c usageCollector) Describe(descriptions chan<- *prometheus.Desc) {
	descriptions <- sizeMetric
	descriptions <- usedMetric
}

// Collect implements prometheus.Collector.
func (c usageCollector) Collect(metrics chan<- prometheus.Metric) {
	for _, usage := range c.allocator.Usage() {
		cidr := usage.Range.String()
		metrics <- prometheus.MustNewConstMetric(sizeMetric, prometheus.GaugeValue, usage.Size, cidr)
		metrics <- prometheus.MustNewConstMetric(usedMetric, prometheus.GaugeValue, float64(usage.Held), cidr, "held")
		metrics <- prometheus.MustNewConstMetric(usedMetric, prometheus.GaugeValue, float64(usage.Released), cidr, "released")
	}
}
