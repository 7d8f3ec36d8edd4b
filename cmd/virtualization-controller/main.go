// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command virtualization-controller runs the controllers of all kinds, their
// admission webhooks, and the endpoint where importers report their progress.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/internal/logging"
)

// options are the flags; the chart in templates/virtualization-controller sets
// them.
type options struct {
	log logging.Options

	namespace      string
	leaderElect    bool
	webhookAddress string
	healthAddress  string
	metricsAddress string
	tlsDir         string
	caFile         string

	dvcrAddress   string
	tokenKeyFile  string
	importerImage string
	reportURL     string

	ranges             []string
	defaultDiskClass   string
	allowedDiskClasses []string
}

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "virtualization-controller:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:           "virtualization-controller",
		Short:         "Run the controllers of the module",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(*cobra.Command, []string) error { return run(ctrl.SetupSignalHandler(), o) },
	}
	o.addFlags(command.Flags())
	return command
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	o.log.AddFlags(flags)
	flags.StringVar(&o.namespace, "namespace", "d8-virtualization", "namespace of the module's own workloads")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "let only one of several replicas reconcile")
	flags.StringVar(&o.webhookAddress, "webhook-address", ":9443", "HTTPS address of webhooks and importers' reports")
	flags.StringVar(&o.healthAddress, "health-address", ":8083", "address of /healthz and /readyz")
	flags.StringVar(&o.metricsAddress, "metrics-address", ":8080", "address of /metrics")
	flags.StringVar(&o.tlsDir, "tls-dir", "/etc/virtualization-controller/tls", "folder with tls.crt and tls.key of the HTTPS address")
	flags.StringVar(&o.caFile, "ca-file", "/etc/virtualization-ca/ca.crt", "PEM file of the module's certificate authority")
	flags.StringVar(&o.dvcrAddress, "dvcr-address", "dvcr.d8-virtualization.svc", "host of the image registry")
	flags.StringVar(&o.tokenKeyFile, "dvcr-token-key-file", "/etc/dvcr/tokenPrivateKey", "PEM file of the key that signs registry tokens")
	flags.StringVar(&o.importerImage, "importer-image", "", "container image of importers")
	flags.StringVar(&o.reportURL, "report-url", "", "URL at which importers reach --webhook-address")
	flags.StringSliceVar(&o.ranges, "virtual-machine-cidrs", nil, "address ranges of machines, for example 10.66.10.0/24")
	flags.StringVar(&o.defaultDiskClass, "default-disk-storage-class", "", "storage class of disks that name none (default: the cluster's)")
	flags.StringSliceVar(&o.allowedDiskClasses, "allowed-disk-storage-classes", nil, "storage classes that disks may use (default: all)")
}

// validate finds what a Deployment may have left out. The error names the flag.
func (o *options) validate() error {
	var missing []error
	for _, required := range []struct{ flag, value string }{
		{"--importer-image", o.importerImage}, {"--report-url", o.reportURL}, {"--dvcr-address", o.dvcrAddress},
	} {
		if required.value == "" {
			missing = append(missing, fmt.Errorf("%s is required", required.flag))
		}
	}
	return errors.Join(missing...)
}

func run(ctx context.Context, o options) error {
	logger, err := o.log.Logger(os.Stderr)
	if err != nil {
		return err
	}
	ctrl.SetLogger(logging.Logr(logger))
	if err := o.validate(); err != nil {
		return err
	}
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	if err := waitForEngine(ctx, mgr.GetRESTMapper()); err != nil {
		return err
	}
	if err := addControllers(mgr, o); err != nil {
		return err
	}
	return mgr.Start(ctx)
}
