// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command deckhouse-host plays Deckhouse for one module: it reads ModuleConfigs
// and runs the module's hooks and Helm chart with addon-operator.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/deckhouse/virtualization/sandbox/deckhouse/internal/host"
)

// garbagePercent trades some processor time at each run of Helm for half of the
// memory in between.
const garbagePercent = 40

func main() {
	debug.SetGCPercent(garbagePercent)
	options, err := parse(os.Args[1:])
	if errors.Is(err, pflag.ErrHelp) {
		return
	}
	if err == nil {
		err = run(options)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "deckhouse-host:", err)
		os.Exit(1)
	}
}

func run(options host.Options) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	err := host.Run(ctx, options)
	if !errors.Is(err, host.ErrRestart) {
		return err
	}
	fmt.Fprintln(os.Stderr, "deckhouse-host: starting again:", err)
	// The same process goes on as a new one, so a supervisor sees no death.
	self, err := os.Executable()
	if err != nil {
		return err
	}
	return syscall.Exec(self, os.Args, os.Environ())
}

func parse(args []string) (host.Options, error) {
	var o host.Options
	flags := pflag.NewFlagSet("deckhouse-host", pflag.ContinueOnError)
	flags.StringVar(&o.Kubeconfig, "kubeconfig", "", "administrator's access to the cluster")
	flags.StringVar(&o.ModuleDir, "module-dir", "", "folder of the module: the repository or an unpacked bundle")
	flags.StringSliceVar(&o.HookBinaries, "hook-binary", nil, "compiled hooks of the module; those in --module-dir if none is named")
	flags.StringVar(&o.DigestsFile, "digests-file", "", "images_digests.json; watched, a change installs the new images")
	flags.StringVar(&o.WorkDir, "work-dir", "", "folder for a copy of the module and temporary files")
	flags.StringSliceVar(&o.PresentModules, "present-module", []string{"cni-cilium", "node-manager", "operator-prometheus", "prometheus-crd"}, "other modules that the platform claims to run")
	flags.StringVar(&o.MetricsAddress, "metrics-address", "127.0.0.1:9650", "address of /metrics and /readyz")
	flags.StringVar(&o.WebhookListen, "webhook-listen", "", "address of the admission of ModuleConfigs; none if empty")
	flags.StringVar(&o.WebhookURL, "webhook-url", "", "https:// address at which the API server reaches --webhook-listen")
	flags.StringVar(&o.LogLevel, "log-level", "info", "debug, info, warn or error")
	flags.StringVar(&o.Registry.Base, "registry-base", "", "address below which the module's images are")
	flags.StringVar(&o.Registry.Scheme, "registry-scheme", "HTTPS", "HTTP or HTTPS")
	flags.StringVar(&o.Registry.DockerCfg, "registry-dockercfg", "", "pull secret, base64")
	flags.StringVar(&o.Registry.CA, "registry-ca", "", "CA of the registry, PEM")
	flags.StringVar(&o.Cluster.Domain, "cluster-domain", "cluster.local", "DNS domain of the cluster")
	flags.StringVar(&o.Cluster.DNSAddress, "cluster-dns", "10.96.0.10", "address of the cluster's DNS")
	flags.StringVar(&o.Cluster.PodSubnet, "pod-subnet", "10.244.0.0/16", "subnet of the pods")
	flags.StringVar(&o.Cluster.ServiceSubnet, "service-subnet", "10.96.0.0/16", "subnet of the services")
	flags.StringVar(&o.Cluster.PublicDomain, "public-domain", "", "domain of the modules' names outside the cluster; none if empty")
	flags.StringVar(&o.Cluster.CertificateSecret, "certificate-secret", "", "Secret of d8-system with their certificate; no TLS if empty")
	flags.StringVar(&o.Cluster.DeckhouseVersion, "deckhouse-version", "1.74.2", "version that the platform claims to be")
	if err := flags.Parse(args); err != nil {
		return o, err
	}
	return o, o.Validate()
}
