// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command vm-router keeps the routes to machines on the node it runs on.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/logging"
	"github.com/deckhouse/virtualization/internal/router"
)

type options struct {
	log            logging.Options
	ranges         []string
	healthAddress  string
	metricsAddress string
}

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "vm-router:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:           "vm-router",
		Short:         "Keep the routes to machines on this node",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return run(ctrl.SetupSignalHandler(), o) },
	}
	flags := command.Flags()
	o.log.AddFlags(flags)
	flags.StringSliceVar(&o.ranges, "virtual-machine-cidrs", nil, "address ranges of machines, for example 10.66.10.0/24")
	flags.StringVar(&o.healthAddress, "health-address", "127.0.0.1:4205", "address of /healthz and /readyz")
	flags.StringVar(&o.metricsAddress, "metrics-address", "127.0.0.1:4206", "address of /metrics")
	return command
}

func run(ctx context.Context, o options) error {
	logger, err := o.log.Logger(os.Stderr)
	if err != nil {
		return err
	}
	ctrl.SetLogger(logging.Logr(logger))
	ranges, err := router.ParseRanges(o.ranges)
	if err != nil {
		return err
	}
	node, pod := os.Getenv("NODE_NAME"), types.NamespacedName{Namespace: os.Getenv("POD_NAMESPACE"), Name: os.Getenv("POD_NAME")}
	if node == "" || pod.Namespace == "" || pod.Name == "" {
		return errors.New("the variables NODE_NAME, POD_NAMESPACE and POD_NAME must be set from the pod's own fields")
	}
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	reconciler := &router.Reconciler{
		Client: mgr.GetClient(), Kernel: router.Kernel{}, Log: logger, Node: node, Ranges: ranges,
	}
	if err := reconciler.Setup(mgr); err != nil {
		return err
	}
	if err := mgr.Add(manager.RunnableFunc(func(ctx context.Context) error { return reconciler.ReportBinding(ctx, pod) })); err != nil {
		return err
	}
	return mgr.Start(ctx)
}

func newManager(o options) (ctrl.Manager, error) {
	config, err := ctrl.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("finding kube-apiserver: %w", err)
	}
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, v1alpha2.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, HealthProbeBindAddress: o.healthAddress,
		Metrics: metricsserver.Options{BindAddress: o.metricsAddress},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}
