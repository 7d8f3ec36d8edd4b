// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command virtualization-api serves consoles, displays and port forwarding of
// machines as an aggregated API.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/deckhouse/virtualization/internal/logging"
	"github.com/deckhouse/virtualization/internal/subresources"
)

func main() {
	if err := newCommand().Execute(); err != nil {
		fmt.Fprintln(os.Stderr, "virtualization-api:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var (
		options subresources.Options
		log     logging.Options
	)
	command := &cobra.Command{
		Use:           "virtualization-api",
		Short:         "Serve the streams of machines as an aggregated API",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(*cobra.Command, []string) error {
			logger, err := log.Logger(os.Stderr)
			if err != nil {
				return err
			}
			// k8s.io/apiserver logs through klog.
			klog.SetSlogLogger(logger)
			config, err := ctrl.GetConfig()
			if err != nil {
				return fmt.Errorf("finding kube-apiserver: %w", err)
			}
			return subresources.Run(ctrl.SetupSignalHandler(), options, config)
		},
	}
	flags := command.Flags()
	log.AddFlags(flags)
	flags.IntVar(&options.SecurePort, "secure-port", 8443, "TCP port of the HTTPS listener")
	flags.StringVar(&options.CertFile, "tls-cert-file", "", "PEM file of the serving certificate")
	flags.StringVar(&options.KeyFile, "tls-private-key-file", "", "PEM file of the serving certificate's key")
	return command
}
