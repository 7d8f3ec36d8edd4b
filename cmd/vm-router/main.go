// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command vm-router keeps the routes to machines on the node it runs on.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"time"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	virtv1 "kubevirt.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	"sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/deckhouse/virtualization/api/v1alpha2"
	"github.com/deckhouse/virtualization/internal/logging"
	"github.com/deckhouse/virtualization/internal/monitoring/endpoint"
	"github.com/deckhouse/virtualization/internal/program"
	"github.com/deckhouse/virtualization/internal/router"
)

// daemonSet is the name of the one that this runs in.
const daemonSet = "vm-router"

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
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding kube-apiserver: %w", err)
	}
	mgr, err := newManager(config, o)
	if err != nil {
		return err
	}
	kernel, err := router.NewKernel()
	if err != nil {
		return err
	}
	retirement, err := addParts(mgr, config, parts{kernel: kernel, logger: logger, node: node, pod: pod, ranges: ranges})
	if err != nil {
		return err
	}
	err = mgr.Start(ctx)
	if retirement.Due() {
		// Also after an error: nobody will come to do it later.
		logger.Info("removing all routes and rules, because the DaemonSet is gone", "daemonSet", daemonSet)
		err = errors.Join(err, kernel.Clear())
	}
	return err
}

// parts are what the router is put together from.
type parts struct {
	kernel *router.Kernel
	logger *slog.Logger
	node   string
	pod    types.NamespacedName
	ranges []netip.Prefix
}

func addParts(mgr ctrl.Manager, config *rest.Config, p parts) (*router.Retirement, error) {
	watching, err := client.NewWithWatch(config, client.Options{
		Scheme: mgr.GetScheme(), Mapper: mgr.GetRESTMapper(), HTTPClient: mgr.GetHTTPClient(),
	})
	if err != nil {
		return nil, fmt.Errorf("preparing a client: %w", err)
	}
	retirement := &router.Retirement{Client: watching, DaemonSet: types.NamespacedName{Namespace: p.pod.Namespace, Name: daemonSet}}
	counted := router.NewMetrics(clock.RealClock{})
	if err := metrics.Registry.Register(counted); err != nil {
		return nil, fmt.Errorf("registering metrics: %w", err)
	}
	moves := &router.Moves{Log: p.logger, Clock: clock.RealClock{}, Metrics: counted, Open: router.OpenEcho}
	reconciler := &router.Reconciler{
		Client: mgr.GetClient(), Kernel: p.kernel, Log: p.logger, Clock: clock.RealClock{}, Node: p.node, Ranges: p.ranges,
		Reporter: &router.Reporter{Client: mgr.GetClient(), Clock: clock.RealClock{}, Pod: p.pod}, Metrics: counted, Moves: moves,
	}
	start := manager.RunnableFunc(func(ctx context.Context) error { return begin(ctx, mgr, reconciler, p.kernel) })
	for _, runnable := range []manager.Runnable{retirement, moves, start} {
		if err := mgr.Add(runnable); err != nil {
			return nil, err
		}
	}
	return retirement, nil
}

// begin tells first what the kernel can do, because machines wait for that. Guests
// are served only once KubeVirt is installed, which takes a minute in a new cluster.
func begin(ctx context.Context, mgr ctrl.Manager, reconciler *router.Reconciler, kernel *router.Kernel) error {
	if err := reconciler.Reporter.ReportBinding(ctx, kernel); err != nil {
		return err
	}
	guests := virtv1.VirtualMachineInstanceGroupVersionKind
	err := wait.PollUntilContextCancel(ctx, 2*time.Second, true, func(context.Context) (bool, error) {
		_, err := mgr.GetRESTMapper().RESTMapping(guests.GroupKind(), guests.Version)
		if meta.IsNoMatchError(err) {
			reconciler.Log.Info("waiting for a kind of the engine", "kind", guests.String())
			return false, nil
		}
		return err == nil, err
	})
	switch {
	case ctx.Err() != nil:
		return nil //nolint:nilerr // the program was told to end
	case err != nil:
		return fmt.Errorf("waiting for %s: %w", guests, err)
	}
	return reconciler.Setup(mgr, kernel.Events)
}

func newManager(config *rest.Config, o options) (ctrl.Manager, error) {
	scheme := runtime.NewScheme()
	for _, add := range []func(*runtime.Scheme) error{corev1.AddToScheme, appsv1.AddToScheme, v1alpha2.AddToScheme, virtv1.AddToScheme} {
		if err := add(scheme); err != nil {
			return nil, err
		}
	}
	mgr, err := ctrl.NewManager(config, ctrl.Options{
		Scheme: scheme, HealthProbeBindAddress: o.addresses.Health, Cache: router.CacheOptions(),
		Metrics: endpoint.Options(o.addresses.Metrics, ""),
	})
	if err != nil {
		return nil, fmt.Errorf("preparing the manager: %w", err)
	}
	if err := mgr.AddHealthzCheck("ping", healthz.Ping); err != nil {
		return nil, err
	}
	return mgr, mgr.AddReadyzCheck("ping", healthz.Ping)
}
