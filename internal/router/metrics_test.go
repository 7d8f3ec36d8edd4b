// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	clocktesting "k8s.io/utils/clock/testing"
)

// only is the one series of a metric that has a label of that value.
func only(t *testing.T, from prometheus.Collector, name, label string) prometheus.Collector {
	t.Helper()
	registry := prometheus.NewPedanticRegistry()
	if err := registry.Register(from); err != nil {
		t.Fatal(err)
	}
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	found := prometheus.NewGauge(prometheus.GaugeOpts{Name: "found"})
	for _, family := range families {
		for _, metric := range family.GetMetric() {
			if family.GetName() == name && len(metric.GetLabel()) == 1 && metric.GetLabel()[0].GetValue() == label {
				// A series is of one kind; what it is not has no value.
				found.Set(metric.GetCounter().GetValue() + metric.GetHistogram().GetSampleSum() + metric.GetGauge().GetValue())
				return found
			}
		}
	}
	t.Fatalf("%s has no %s", name, label)
	return nil
}

// Time without a route goes on between the comparisons, and beyond the last.
func TestUnreachableSeconds(t *testing.T) {
	now := clocktesting.NewFakeClock(time.Unix(0, 0))
	m := NewMetrics(now)
	without := func(machines ...Unrouted) Wanted { return Wanted{Unrouted: machines} }
	off := Unrouted{Machine: at("a", "10.66.10.5", "off"), Reason: ReasonNodeUnreachable}
	taken := Unrouted{Machine: at("b", "10.66.10.6", "off"), Reason: ReasonAddressTaken}
	for _, step := range []struct {
		want     Wanted
		lasts    time.Duration
		off, two float64
	}{
		{without(), 5 * time.Second, 0, 0},
		{without(off), 2 * time.Second, 2, 0},
		{without(off, off, taken), 1500 * time.Millisecond, 5, 1.5},
		{without(taken), time.Second, 5, 2.5},
		{without(), time.Hour, 5, 2.5},
	} {
		m.Reconciled(now.Now(), NetworkCilium, step.want, nil)
		now.Step(step.lasts)
		for range 2 { // a scrape changes nothing
			gotOff := testutil.ToFloat64(only(t, m, "d8_virtualization_router_unreachable_seconds_total", "NodeUnreachable"))
			gotTwo := testutil.ToFloat64(only(t, m, "d8_virtualization_router_unreachable_seconds_total", "AddressTaken"))
			if gotOff != step.off || gotTwo != step.two {
				t.Errorf("%v: %v and %v, want %v and %v", step.want.Unrouted, gotOff, gotTwo, step.off, step.two)
			}
		}
	}
}

func TestMetrics(t *testing.T) {
	now := clocktesting.NewFakeClock(time.Unix(0, 0))
	m := NewMetrics(now)
	if got := testutil.CollectAndCount(m, "d8_virtualization_router_network_info"); got != 0 {
		t.Errorf("a network before the first look: %d", got)
	}
	want := Want(input(at("a", "10.66.10.5", "node-1"), at("b", "10.66.10.6", "node-2"), at("c", "10.66.10.7", "node-2"), at("d", "10.66.10.8", "off")))
	m.Reconciled(now.Now(), NetworkNodeAddresses, want, nil)
	m.Reconciled(now.Now(), NetworkNodeAddresses, want, errors.New("refused"))
	m.failed(stepSet)
	m.changed(stepRemove)
	m.Moved(MoveMoved, 1500*time.Millisecond)
	m.Moved(MoveStayed, 500*time.Millisecond)
	for _, tc := range []struct {
		name, label string
		want        float64
	}{
		{"routes", "Local", 1}, {"routes", "Remote", 2}, {"routes", "Blackhole", 2}, {"routes", "Device", 0},
		{"unrouted_machines", "NodeUnreachable", 1}, {"unrouted_machines", "KernelRefused", 0},
		{"reconciles_total", "success", 1}, {"reconciles_total", "failure", 1},
		{"errors_total", "set", 1}, {"errors_total", "dump", 0}, {"changes_total", "remove", 1}, {"changes_total", "set", 0},
		{"network_info", "NodeAddresses", 1},
		{"unreachable_seconds_total", "Migration", 2}, {"migration_unreachable_seconds", "Moved", 1.5}, {"migration_unreachable_seconds", "Lost", 0},
	} {
		if got := testutil.ToFloat64(only(t, m, "d8_virtualization_router_"+tc.name, tc.label)); got != tc.want {
			t.Errorf("%s of %s is %v, want %v", tc.name, tc.label, got, tc.want)
		}
	}
	problems, err := testutil.CollectAndLint(m)
	if err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if err := testutil.CollectAndCompare(m, strings.NewReader(`
# HELP d8_virtualization_router_network_info How machines on other nodes are reached: Cilium or NodeAddresses. The value is 1.
# TYPE d8_virtualization_router_network_info gauge
d8_virtualization_router_network_info{network="NodeAddresses"} 1
`), "d8_virtualization_router_network_info"); err != nil {
		t.Error(err)
	}
}
