// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/deckhouse/deckhouse/pkg/log"
	metricsstorage "github.com/deckhouse/deckhouse/pkg/metrics-storage"
	addonoperator "github.com/flant/addon-operator/pkg/addon-operator"
	"github.com/flant/addon-operator/pkg/app"
	"github.com/flant/addon-operator/pkg/metrics"
	shellapp "github.com/flant/shell-operator/pkg/app"
	shellmetrics "github.com/flant/shell-operator/pkg/metrics"
)

const (
	metricsPrefix = "deckhouse_"
	// clientRate is the request rate of each of addon-operator's clients. One
	// module is installed at once, with several hundred objects.
	clientRate, clientBurst = 50, 100
	patchTimeout            = 10 * time.Second
	helmHistory             = 3
	// appliedExtenders decide together whether a module is enabled; these are
	// Deckhouse's, as far as one module needs them.
	appliedExtenders = "Static,DynamicallyEnabled,KubeConfig,ScriptEnabled"
	// addon-operator divides by one less than this.
	parallelQueues = 2
)

// newOperator prepares addon-operator. It is configured by variables of its
// packages, so there can be only one in a process.
func newOperator(ctx context.Context, options Options, logger *log.Logger) (*addonoperator.AddonOperator, error) {
	// Helm and the hooks know the cluster by this variable only.
	if err := os.Setenv("KUBECONFIG", options.Kubeconfig); err != nil {
		return nil, err
	}
	host, port, err := net.SplitHostPort(options.MetricsAddress)
	if err != nil {
		return nil, err
	}
	if err := checkFree(ctx, options.MetricsAddress); err != nil {
		return nil, err
	}
	app.Namespace = Namespace
	app.ModulesDir = options.modulesDir()
	app.GlobalHooksDir = options.globalDir()
	app.ListenAddress, app.ListenPort = host, port
	app.ExtraLabels = "heritage=deckhouse"
	app.Helm3HistoryMax = helmHistory
	app.AppliedExtenders = appliedExtenders
	app.HelmMonitorKubeClientQps, app.HelmMonitorKubeClientBurst = clientRate, clientBurst
	app.NumberOfParallelQueues = parallelQueues

	shellapp.TempDir = options.temporaryDir()
	shellapp.DebugUnixSocket = options.debugSocket()
	shellapp.PrometheusMetricsPrefix = metricsPrefix
	shellapp.KubeConfig = options.Kubeconfig
	shellapp.LogType = "text"
	shellapp.LogLevel = options.LogLevel
	shellapp.ObjectPatcherKubeClientTimeout = patchTimeout
	shellapp.KubeClientQps, shellapp.KubeClientBurst = clientRate, clientBurst
	shellapp.ObjectPatcherKubeClientQps, shellapp.ObjectPatcherKubeClientBurst = clientRate, clientBurst

	shellmetrics.InitMetrics(metricsPrefix)
	metrics.InitMetrics(metricsPrefix)
	own := metricsstorage.NewMetricStorage(metricsstorage.WithLogger(logger))
	// Metrics of hooks are scraped apart, so they have a registry of their own.
	ofHooks := metricsstorage.NewMetricStorage(metricsstorage.WithLogger(logger), metricsstorage.WithNewRegistry())
	return addonoperator.NewAddonOperator(ctx, own, ofHooks, addonoperator.WithLogger(logger)), nil
}

// checkFree finds a second host before addon-operator does, which would end the
// process in the middle of something.
func checkFree(ctx context.Context, address string) error {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", address)
	if err != nil {
		return fmt.Errorf("--metrics-address: %w: is another deckhouse-host running?", err)
	}
	return listener.Close()
}
