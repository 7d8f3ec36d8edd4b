// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package cli holds the commands that people type.
package cli

import (
	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
)

const longHelp = `A small true-to-life cluster on one machine, for developing the module
"virtualization" and testing it end to end.

It has two nodes with the real etcd, kube-apiserver, kubelet, containerd and so
on, each node in namespaces of its own, and beside them the part of Deckhouse
that runs modules. Nothing is pulled from a registry: everything is built from
pinned Go modules and Debian packages, once, and kept in a cache.

All of it lives in one directory, $SANDBOX_STATE (default
/var/lib/virtualization-sandbox), and under one supervisor process. When that
ends, in whatever way, the kernel removes every process, mount and network
device of the sandbox with it. The machine's own network is never touched.
A second sandbox on the machine needs a directory of its own, and other addresses
in $SANDBOX_API and $SANDBOX_INGRESS; its other ports it finds itself.

  sandbox up                      build what is missing, start what does not run
  sandbox status                  what runs, since when, how often it was restarted
  sandbox kubectl get nodes       kubectl as the administrator
  sandbox logs -f node-1/kubelet  follow the log of a process
  sandbox exec node-2 -- nft list ruleset
                                  run a command in a node
  sandbox load virtualization-controller
                                  build an image of the module and put it to use
  sandbox publish v0.2.0 --rebuild
                                  publish a version of the module on a release channel
  sandbox restart node-1/kubelet  start a process again
  sandbox down                    remove everything but the cache

The commands may be repeated and interrupted at any time: "up" goes on where the
last one stopped, and "down" removes whatever there is.`

// New returns the command with all its subcommands.
func New() *cobra.Command {
	root := &cobra.Command{
		Use:           "sandbox",
		Short:         "A small cluster with Deckhouse's side of the module's contract",
		Long:          longHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.AddCommand(
		newUp(), newDown(), newStatus(), newLogs(), newLoad(), newPublish(), newKubectl(), newExec(), newRestart(), newBuild(),
		newBoxInit(), newSupervise(),
	)
	return root
}

// newBoxInit and newSupervise are what the sandbox starts itself.
func newBoxInit() *cobra.Command {
	return &cobra.Command{
		Use: box.InitCommand, Hidden: true, Args: cobra.ExactArgs(1),
		RunE: func(*cobra.Command, []string) error { return box.Init() },
	}
}

func newSupervise() *cobra.Command {
	return &cobra.Command{
		Use: supervisor.Command, Hidden: true, Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			dir, err := state.FromEnvironment()
			if err != nil {
				return err
			}
			return supervisor.Serve(dir)
		},
	}
}
