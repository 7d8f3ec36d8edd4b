// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/sandbox/internal/host"
)

// hostBox holds the processes that run on the machine's side.
const hostBox = "host"

// step is one part of "up". Steps run in order, find out themselves what is done
// already, and may be interrupted anywhere.
type step struct {
	name string
	run  func(ctx context.Context, s *session) error
}

// steps lists all of "up".
func steps() []step {
	return []step{
		{"machine", prepareMachine},
		{"build", buildRuntime},
		{"cluster", startCluster},
		{"images", loadClusterImages},
		{"services", installServices},
		{"module images", loadModuleImages},
		{"deckhouse", startDeckhouse},
		{"module", enableModule},
		{"guests", publishGuests},
		{"quick start", runQuickStart},
		{"welcome", sayWelcome},
	}
}

func newUp() *cobra.Command {
	var repository string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Build what is missing and start what does not run",
		Long: `Builds what is missing, starts what does not run and waits until it works.

The first run compiles everything, which takes half an hour on two processors;
later ones only what changed. Each line says how long "up" has been running, which
phase it is in and what it does; there is at least one line every 30 seconds.
After an interruption, or when something was killed, run it again.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := host.CheckRoot(); err != nil {
				return err
			}
			s, err := newSession(cmd.OutOrStdout(), repository)
			if err != nil {
				return err
			}
			unlock, err := lockState(s.state)
			if err != nil {
				return err
			}
			defer unlock()
			return runSteps(cmd.Context(), s, steps())
		},
	}
	cmd.Flags().StringVar(&repository, "repository", "", "the module's repository (default: the one around the working directory)")
	return cmd
}

func runSteps(ctx context.Context, s *session, list []step) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	// Waiting for something in a cluster that is gone would be for nothing.
	s.cancel = cancel
	for _, step := range list {
		if err := s.report.Phase(step.name, func() error { return step.run(ctx, s) }); err != nil {
			if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
				return cause
			}
			return err
		}
	}
	return nil
}

// prepareMachine installs the few packages that the sandbox needs of the machine.
func prepareMachine(ctx context.Context, s *session) error {
	return host.EnsurePackages(ctx, s.report.Say)
}
