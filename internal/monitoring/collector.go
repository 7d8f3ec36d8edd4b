// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package monitoring

import (
	"context"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"
)

// patience is how long a scrape may wait for a cache that is still being filled;
// Prometheus itself waits for ten seconds.
const patience = 8 * time.Second

// Collector tells about all objects when it is scraped.
type Collector struct {
	// Reader is the controllers' cache.
	Reader client.Reader
	// Emulated tells that guests run without the help of the nodes' processors.
	Emulated bool
}

// Describe implements prometheus.Collector.
func (c *Collector) Describe(descriptions chan<- *prometheus.Desc) {
	for _, metric := range all {
		// The labels of objects become labels, so the registry cannot know these before.
		if metric != machineLabels && metric != diskLabels {
			descriptions <- metric.desc
		}
	}
}

// Collect implements prometheus.Collector. A kind that cannot be listed fails the
// scrape: what is not told of must not look as if it were not there.
func (c *Collector) Collect(metrics chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out := sink(metrics)
	out.put(softwareEmulation, number(c.Emulated))
	for _, kind := range kinds {
		if err := kind(ctx, c.Reader, out); err != nil {
			metrics <- prometheus.NewInvalidMetric(waitingSince.desc, err)
		}
	}
	if err := support(ctx, c.Reader, out, c.Emulated); err != nil {
		metrics <- prometheus.NewInvalidMetric(nodeKernel.desc, err)
	}
}

// kinds tell of all objects of a kind each.
var kinds = []func(context.Context, client.Reader, sink) error{
	machines, disks, images, clusterImages, attachments, operations, classes, addresses, leases, nodes,
}

// each tells of every object in a list of the cache. Objects are not copied: that would
// be most of the work, and nothing here changes them.
func each[T any](ctx context.Context, reader client.Reader, list client.ObjectList, items *[]T, tell func(*T)) error {
	if err := reader.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
		return err
	}
	for i := range *items {
		tell(&(*items)[i])
	}
	return nil
}

// Leading shows a collector for as long as the manager leads.
type Leading struct {
	Collector *Collector
	Registry  prometheus.Registerer
}

// Start implements manager.Runnable.
func (l *Leading) Start(ctx context.Context) error {
	if err := l.Registry.Register(l.Collector); err != nil {
		return err
	}
	log.FromContext(ctx).V(1).Info("Telling about all objects")
	<-ctx.Done()
	l.Registry.Unregister(l.Collector)
	return nil
}

// NeedLeaderElection implements manager.LeaderElectionRunnable.
func (l *Leading) NeedLeaderElection() bool { return true }
