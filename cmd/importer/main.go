// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command importer moves disk images between their sources, the module's registry
// and volumes.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/internal/importer"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/logging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	os.Exit(exitCode(err))
}

// exitCode is 0 for a permanent failure, too: the verdict is in the termination
// message, and kubelet must not start the container again.
func exitCode(err error) int {
	var failure *report.Failure
	switch {
	case err == nil:
		return 0
	case errors.As(err, &failure) && failure.Permanent:
		return 0
	}
	fmt.Fprintln(os.Stderr, "importer:", err)
	return 1
}

func newCommand() *cobra.Command {
	command := &cobra.Command{
		Use:           "importer",
		Short:         "Move disk images between their sources, the module's registry and volumes",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	command.AddCommand(
		newVerb(importer.VerbImport, "Import one image and leave the verdict in the termination message"),
		newVerb(importer.VerbUpload, "Receive one image and leave the verdict in the termination message"),
		newVerb(importer.VerbInspect, "Tell what an image is in the termination message"),
	)
	return command
}

func newVerb(verb, short string) *cobra.Command {
	config := importer.Config{Verb: verb}
	var log logging.Options
	command := &cobra.Command{
		Use:   verb,
		Short: short,
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			logger, err := log.Logger(os.Stderr)
			if err != nil {
				return err
			}
			return importer.Main(command.Context(), config, logger)
		},
	}
	log.AddFlags(command.Flags())
	config.AddFlags(command.Flags())
	return command
}
