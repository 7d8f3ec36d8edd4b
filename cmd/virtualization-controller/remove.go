// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/deckhouse/virtualization/internal/logging"
	"github.com/deckhouse/virtualization/internal/program"
	"github.com/deckhouse/virtualization/internal/removal"
)

// removeTimeout leaves a guest the time that it gets to shut down, and KubeVirt some minutes more.
const removeTimeout = 15 * time.Minute

// newRemoveCommand is what the chart runs before the module is removed. It is a command of this program, since this
// image is on the nodes already when the registry cannot be reached any more.
func newRemoveCommand() *cobra.Command {
	r := removal.Remover{}
	command := program.Logged("remove-engine", "Stop all guests and remove KubeVirt and CDI, for good",
		func(ctx context.Context, logger *slog.Logger) error { return remove(ctx, r, logger) })
	command.Flags().StringVar(&r.Namespace, "namespace", "d8-virtualization", "namespace of the module's own workloads")
	command.Flags().DurationVar(&r.Timeout, "timeout", removeTimeout, "how long to wait before saying what remains")
	return command
}

func remove(ctx context.Context, r removal.Remover, logger *slog.Logger) error {
	ctrl.SetLogger(logging.Logr(logger))
	config, err := ctrl.GetConfig()
	if err != nil {
		return fmt.Errorf("finding kube-apiserver: %w", err)
	}
	scheme, err := removal.NewScheme()
	if err != nil {
		return err
	}
	if r.Client, err = client.New(config, client.Options{Scheme: scheme}); err != nil {
		return fmt.Errorf("preparing a client: %w", err)
	}
	r.Logger = logger
	return r.Run(ctx)
}
