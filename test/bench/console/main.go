// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command console measures on a running sandbox how long a machine takes from its
// creation to its guest's first word on the serial console, against the same
// KubeVirt machine made by hand, in turns in one run:
//
//	make bench-console
//
// Both machines have their own copy of the same disk, which is filled before. What
// remains is what the platform adds: the address, the rendering and the status.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
)

// options are the command line.
type options struct {
	kubeconfig string
	image      string
	word       string
	rounds     int
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "console:", err)
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:           "console",
		Short:         "Measure how soon a machine's guest speaks on the running sandbox",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE:          func(command *cobra.Command, _ []string) error { return run(command.Context(), o) },
	}
	kubeconfig := os.Getenv("KUBECONFIG")
	if kubeconfig == "" {
		kubeconfig = filepath.Join("/var/lib/virtualization-sandbox", "kubeconfig")
	}
	flags := command.Flags()
	flags.StringVar(&o.kubeconfig, "kubeconfig", kubeconfig, "the sandbox's kubeconfig")
	flags.StringVar(&o.image, "image", "http://guests.sandbox.svc.cluster.local/tiny.qcow2", "address of the guest's disk, as seen from the cluster")
	flags.StringVar(&o.word, "word", "GUEST-UP", "what the guest prints first")
	flags.IntVar(&o.rounds, "rounds", 5, "how often each of the two is started")
	return command
}

// run prints what was measured, also before an error, and fails when the bound is
// not kept.
func run(ctx context.Context, o options) error {
	cluster, err := connect(o.kubeconfig)
	if err != nil {
		return err
	}
	if err := cluster.begin(ctx, o.image); err != nil {
		return errors.Join(err, cluster.end())
	}
	var seen result
	err = seen.collect(ctx, cluster, o)
	fmt.Print(seen)
	if err == nil {
		err = seen.judge()
	}
	return errors.Join(err, cluster.end())
}
