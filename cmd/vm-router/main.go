// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command vm-router keeps the routes to machines on the node it runs on.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
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
	"github.com/deckhouse/virtualization/internal/program"
	"github.com/deckhouse/virtualization/internal/router"
)

type options struct {
	ranges    []string
	addresses program.Addresses
}

func main() { program.Main(newCommand()) }

func newCommand() *cobra.Command {
	o := options{addresses: program.Addresses{Health: "127.0.0.1:4205", Metrics: "127.0.0.1:4206"}}
	command := program.Logged("vm-router", "Keep the routes to machines on this node",
		func(ctx context.Context, logger *slog.Logger) error { return run(ctx, o, logger) })
	o.addresses.AddFlags(command.Flags())
	command.Flags().StringSliceVar(&o.ranges, "virtual-machine-cidrs", nil, "address ranges of machines, for example 10.66.10.0/24")
	return command
}

func run(ctx context.Context, o options, logger *slog.Logger) error {
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
		Scheme: scheme, HealthProbeBindAddress: o.addresses.Health,
		Metrics: metricsserver.Options{BindAddress: o.addresses.Metrics},
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}
