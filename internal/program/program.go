// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package program is what the main packages share: how a command is told to end,
// how it says why it failed, and the flags that every server has.
package program

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/deckhouse/virtualization/internal/logging"
)

// Main runs a command and ends the process. The command's context ends on SIGINT
// and SIGTERM; a second signal ends the process at once.
func Main(command *cobra.Command) {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	os.Exit(run(ctx, command, os.Stderr))
}

// run returns the exit status.
func run(ctx context.Context, command *cobra.Command, stderr io.Writer) int {
	command.SilenceUsage, command.SilenceErrors = true, true
	if err := command.ExecuteContext(ctx); err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", command.Name(), err)
		return 1
	}
	return 0
}

// Logged makes a command that takes flags only, --log-level and --log-format among
// them, and logs as they say.
func Logged(use, short string, serve func(context.Context, *slog.Logger) error) *cobra.Command {
	var options logging.Options
	command := &cobra.Command{
		Use: use, Short: short, Args: cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			logger, err := options.Logger(command.ErrOrStderr())
			if err != nil {
				return err
			}
			return serve(command.Context(), logger)
		},
	}
	options.AddFlags(command.Flags())
	return command
}

// Addresses are those where a server tells about itself.
type Addresses struct {
	Health  string
	Metrics string
}

// AddFlags registers --health-address and --metrics-address; the defaults are what
// the addresses are set to.
func (a *Addresses) AddFlags(flags *pflag.FlagSet) {
	flags.StringVar(&a.Health, "health-address", a.Health, "address of /healthz and /readyz")
	flags.StringVar(&a.Metrics, "metrics-address", a.Metrics, "address of /metrics")
}
