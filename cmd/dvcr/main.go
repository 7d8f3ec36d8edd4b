// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command dvcr is the module's image registry.
package main

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/internal/dvcr/gc"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
	"github.com/deckhouse/virtualization/internal/program"
)

func main() { program.Main(newCommand()) }

func newCommand() *cobra.Command {
	var config server.Config
	addresses := program.Addresses{Health: ":8083", Metrics: "127.0.0.1:5001"}
	command := program.Logged("dvcr", "Serve the registry that holds the module's images",
		func(ctx context.Context, logger *slog.Logger) error {
			server.BridgeLogs(logger)
			config.HealthAddress, config.MetricsAddress = addresses.Health, addresses.Metrics
			return server.Run(ctx, config, logger)
		})
	flags := command.Flags()
	addresses.AddFlags(flags)
	flags.StringVar(&config.Address, "address", ":5000", "address of the registry's HTTPS listener")
	flags.StringVar(&config.Root, "root", "/var/lib/registry", "directory that holds the images")
	flags.StringVar(&config.S3SettingsDir, "s3-settings-dir", "", "folder that says which bucket holds the images instead of --root: files bucket, region, regionEndpoint, accessKey, secretKey, and ca.crt if there is one")
	flags.StringVar(&config.TLSCertFile, "tls-cert-file", "", "PEM file of the serving certificate; read again when it changes")
	flags.StringVar(&config.TLSKeyFile, "tls-private-key-file", "", "PEM file of the serving certificate's key")
	flags.StringVar(&config.TokenPublicKeyFile, "token-public-key-file", "/etc/dvcr/tokenPublicKey", "PEM file of the key that verifies tokens")
	flags.StringVar(&config.HTTPSecretFile, "http-secret-file", "/etc/dvcr/httpSecret", "file of the secret that signs the state of uploads")
	flags.StringVar(&config.GCSchedule, "gc-schedule", "0 * * * *", "cron expression for the removal of unused images; if empty, they are removed only after a deletion")
	flags.DurationVar(&config.GCGrace, "gc-grace-period", gc.DefaultGrace, "how long a blob is kept for a push that has not published its image yet")
	return command
}
