// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sandbox-bashible runs in a node and configures it as the platform's
// NodeGroupConfigurations say.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/bashible"
)

func main() {
	flags := pflag.NewFlagSet("sandbox-bashible", pflag.ExitOnError)
	kubeconfig := flags.String("kubeconfig", "", "access to the cluster")
	node := flags.String("node", "", "name of the node")
	_ = flags.Parse(os.Args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, *kubeconfig, *node)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox-bashible:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kubeconfig, node string) error {
	if node == "" {
		return fmt.Errorf("--node is required")
	}
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return fmt.Errorf("--kubeconfig: %w", err)
	}
	client, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	agent := &bashible.Agent{
		Node: node, Client: client, Clock: clock.RealClock{}, Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	agent.Run(ctx)
	return nil
}
