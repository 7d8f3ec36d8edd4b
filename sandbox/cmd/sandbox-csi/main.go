// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sandbox-csi is the storage driver of the sandbox.
package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/pflag"

	"github.com/deckhouse/virtualization/sandbox/internal/csi"
)

func main() {
	options := csi.Options{Log: slog.New(slog.NewTextHandler(os.Stderr, nil))}
	flags := pflag.NewFlagSet("sandbox-csi", pflag.ExitOnError)
	flags.StringVar(&options.Socket, "socket", "/csi/csi.sock", "Unix socket of the CSI services")
	flags.StringVar(&options.Root, "root", "/volumes", "directory of the volumes, shared by all nodes")
	flags.StringVar(&options.Node, "node", "", "name of the node, for the node service")
	flags.StringVar(&options.RegistrationDirectory, "registration-directory", "", "where the kubelet looks for plugins")
	flags.StringVar(&options.KubeletSocket, "kubelet-socket", "", "where the kubelet reaches --socket")
	_ = flags.Parse(os.Args[1:])
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := csi.Run(ctx, options)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sandbox-csi:", err)
		os.Exit(1)
	}
}
