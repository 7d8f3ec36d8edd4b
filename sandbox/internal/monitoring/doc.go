// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package monitoring plays the platform's part of monitoring: of the objects that the
// module brings (PodMonitors, PrometheusRules) it makes the configuration of a
// Prometheus, as the Prometheus operator does in Deckhouse.
//
// It knows the fields that the module uses. Any other one is an error that is told,
// instead of something that works differently on the real platform.
package monitoring
