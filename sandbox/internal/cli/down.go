// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"

	"github.com/spf13/cobra"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/cgroup"
	"github.com/deckhouse/virtualization/sandbox/internal/host"
	"github.com/deckhouse/virtualization/sandbox/internal/report"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
)

func newDown() *cobra.Command {
	var purge bool
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove everything but the cache",
		Long: `Ends everything that the sandbox runs and removes what it made: processes,
namespaces, cgroups, loop devices and the files in its directory. Only the cache
stays, so that the next "up" need not compile; --purge removes it as well.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := host.CheckRoot(); err != nil {
				return err
			}
			dir, err := state.FromEnvironment()
			if err != nil {
				return err
			}
			if _, err := os.Stat(string(dir)); os.IsNotExist(err) {
				return nil
			}
			unlock, err := lockState(dir)
			if err != nil {
				return err
			}
			defer unlock()
			r := report.New(cmd.OutOrStdout(), clock.RealClock{})
			return r.Phase("down", func() error { return takeDown(cmd.Context(), dir, purge) })
		},
	}
	cmd.Flags().BoolVar(&purge, "purge", false, "remove the cache too: the next \"up\" builds everything again")
	return cmd
}

// takeDown removes things in the order in which one holds the other.
func takeDown(ctx context.Context, dir state.Dir, purge bool) error {
	if err := supervisor.Stop(ctx, dir); err != nil {
		return err
	}
	tree, err := cgroup.Detect()
	if err != nil {
		return err
	}
	if err := tree.Remove(dir.CgroupName()); err != nil {
		return err
	}
	if err := tree.Restore(dir.CgroupRestore()); err != nil {
		return err
	}
	if err := host.DetachLoopDevices(string(dir)); err != nil {
		return err
	}
	return dir.RemoveAllButCache(purge)
}
