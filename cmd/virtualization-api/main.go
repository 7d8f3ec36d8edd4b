// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command virtualization-api serves consoles, displays and port forwarding of
// machines as an aggregated API.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/internal/program"
	"github.com/deckhouse/virtualization/internal/subresources"
)

func main() { program.Main(newCommand()) }

func newCommand() *cobra.Command {
	var options subresources.Options
	var audited bool
	command := program.Logged("virtualization-api", "Serve the streams of machines as an aggregated API",
		func(ctx context.Context, logger *slog.Logger) error {
			// k8s.io/apiserver logs through klog.
			klog.SetSlogLogger(logger)
			config, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("finding kube-apiserver: %w", err)
			}
			options.Kubeconfig = os.Getenv(clientcmd.RecommendedConfigPathEnvVar)
			if audited {
				options.Audit = os.Stdout
			}
			return subresources.Run(ctx, options, config)
		})
	flags := command.Flags()
	flags.StringVar(&options.Namespace, "namespace", "d8-virtualization", "namespace of the module's own workloads, where it is written down who uses a console")
	flags.IntVar(&options.SecurePort, "secure-port", 8443, "TCP port of the HTTPS listener")
	flags.StringVar(&options.CertFile, "tls-cert-file", "", "PEM file of the serving certificate")
	flags.StringVar(&options.KeyFile, "tls-private-key-file", "", "PEM file of the serving certificate's key")
	flags.BoolVar(&audited, "audit", false, "write an audit event for each stream and order to the standard output")
	return command
}
