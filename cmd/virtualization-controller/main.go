// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command virtualization-controller runs the controllers of all kinds, their
// admission webhooks, and the endpoint where importers report their progress.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/internal/controller/shared/importerpod"
	"github.com/deckhouse/virtualization/internal/logging"
	"github.com/deckhouse/virtualization/internal/program"
)

// options are the flags; the chart in templates/virtualization-controller sets
// them.
type options struct {
	addresses program.Addresses

	namespace      string
	leaderElect    bool
	webhookAddress string
	tlsDir         string
	caFile         string

	dvcrAddress   string
	tokenKeyFile  string
	importerImage string
	launcherImage string
	pullSecret    string
	reportURL     string

	// importerLogs are the flags of logging that importers get.
	importerLogs    []string
	refusedNetworks []string
	uploads         importerpod.Uploads

	emulated bool

	ranges              []string
	defaultDiskClass    string
	allowedDiskClasses  []string
	defaultImageClass   string
	allowedImageClasses []string
}

func main() { program.Main(newCommand()) }

func newCommand() *cobra.Command {
	o := options{addresses: program.Addresses{Health: ":8083", Metrics: ":8080"}}
	var command *cobra.Command
	command = program.Logged("virtualization-controller", "Run the controllers of the module",
		func(ctx context.Context, logger *slog.Logger) error {
			o.importerLogs = logArgs(command.Flags())
			return run(ctx, o, logger)
		})
	o.addFlags(command.Flags())
	command.AddCommand(newRemoveCommand())
	return command
}

// logArgs hands the controller's own way of logging on to importers.
func logArgs(flags *pflag.FlagSet) []string {
	var args []string
	for _, name := range []string{"log-level", "log-format"} {
		args = append(args, "--"+name+"="+flags.Lookup(name).Value.String())
	}
	return args
}

func (o *options) addFlags(flags *pflag.FlagSet) {
	o.addresses.AddFlags(flags)
	flags.StringVar(&o.namespace, "namespace", "d8-virtualization", "namespace of the module's own workloads")
	flags.BoolVar(&o.leaderElect, "leader-elect", false, "let only one of several replicas reconcile")
	flags.StringVar(&o.webhookAddress, "webhook-address", ":9443", "HTTPS address of webhooks and importers' reports")
	flags.StringVar(&o.tlsDir, "tls-dir", "/etc/virtualization-controller/tls", "folder with tls.crt and tls.key of the HTTPS address")
	flags.StringVar(&o.caFile, "ca-file", "/etc/virtualization-ca/ca.crt", "PEM file of the module's certificate authority")
	flags.StringVar(&o.dvcrAddress, "dvcr-address", "dvcr.d8-virtualization.svc", "host of the image registry")
	flags.StringVar(&o.tokenKeyFile, "dvcr-token-key-file", "/etc/dvcr/tokenPrivateKey", "PEM file of the key that signs registry tokens")
	flags.StringVar(&o.importerImage, "importer-image", "", "container image of importers")
	flags.StringVar(&o.launcherImage, "launcher-image", "", "container image in which the engine runs guests; it tells which versions a guest runs on")
	flags.StringVar(&o.pullSecret, "image-pull-secret", "virtualization-module-registry", "Secret in --namespace that --importer-image is pulled with")
	flags.StringVar(&o.reportURL, "report-url", "", "URL at which importers reach --webhook-address")
	flags.BoolVar(&o.emulated, "software-emulation", false, "guests run without the help of the nodes' processors")
	flags.StringSliceVar(&o.ranges, "virtual-machine-cidrs", nil, "address ranges of machines, for example 10.66.10.0/24")
	flags.StringSliceVar(&o.refusedNetworks, "refuse-networks", nil, "networks that nothing is imported from (default: loopback and link-local)")
	flags.StringVar(&o.uploads.Host, "upload-ingress-host", "", "public host of uploads (default: they come from inside the cluster only)")
	flags.StringVar(&o.uploads.Scheme, "upload-ingress-scheme", "https", "scheme of the public addresses of uploads")
	flags.StringVar(&o.uploads.IngressClass, "upload-ingress-class", "", "class of the Ingress of uploads")
	flags.StringVar(&o.uploads.TLSSecret, "upload-ingress-tls-secret", "", "Secret in --namespace with the certificate of --upload-ingress-host; empty: TLS ends before the Ingress controller, or there is none")
	flags.StringVar(&o.defaultImageClass, "default-image-storage-class", "", "storage class of images on volumes that name none (default: the cluster's)")
	flags.StringSliceVar(&o.allowedImageClasses, "allowed-image-storage-classes", nil, "storage classes that images may use (default: all)")
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

func run(ctx context.Context, o options, logger *slog.Logger) error {
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
