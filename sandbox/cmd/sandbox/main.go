// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sandbox starts and stops a small cluster with Deckhouse's side of the
// module's contract on this machine.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/deckhouse/virtualization/sandbox/internal/cli"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := cli.New().ExecuteContext(ctx)
	stop()
	if err == nil {
		return
	}
	fmt.Fprintln(os.Stderr, "sandbox:", err)
	os.Exit(cli.ExitCode(err))
}
