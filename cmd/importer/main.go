// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command importer moves disk images between their sources, the module's registry
// and volumes.
package main

import (
	"context"
	"errors"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/internal/importer"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/program"
)

func main() { program.Main(newCommand()) }

func newCommand() *cobra.Command {
	command := &cobra.Command{Use: "importer", Short: "Move disk images between their sources, the module's registry and volumes"}
	command.AddCommand(
		newVerb(importer.VerbImport, "Import one image and leave the verdict in the termination message"),
		newVerb(importer.VerbUpload, "Receive one image and leave the verdict in the termination message"),
		newVerb(importer.VerbInspect, "Tell what an image is in the termination message"),
	)
	return command
}

func newVerb(verb, short string) *cobra.Command {
	config := importer.Config{Verb: verb}
	command := program.Logged(verb, short, func(ctx context.Context, logger *slog.Logger) error {
		return worthAnother(importer.Main(ctx, config, logger))
	})
	config.AddFlags(command.Flags())
	return command
}

// worthAnother drops a permanent failure: the verdict is in the termination message,
// and kubelet must not start the container again.
func worthAnother(err error) error {
	var failure *report.Failure
	if errors.As(err, &failure) && failure.Permanent {
		return nil
	}
	return err
}
