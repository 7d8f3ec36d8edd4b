// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"net"
	"os"
	"time"

	"github.com/deckhouse/deckhouse/pkg/log"
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
	app.Namespace = Namespace
	app.ModulesDir = options.modulesDir()
	app.GlobalHooksDir = options.globalDir()
	app.ListenAddress, app.ListenPort = host, port
	app.ExtraLabels = "heritage=deckhouse"
	app.Helm3HistoryMax = helmHistory
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
	return addonoperator.NewAddonOperator(ctx, nil, nil, addonoperator.WithLogger(logger)), nil
}
