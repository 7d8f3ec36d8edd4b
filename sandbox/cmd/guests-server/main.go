// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command guests-server serves the disks of the sandbox's guests over HTTP, with
// ranges, as a mirror on the internet would.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/sandbox/internal/guest"
)

const (
	headerTimeout   = 10 * time.Second
	shutdownTimeout = 3 * time.Second
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	err := newCommand().ExecuteContext(ctx)
	stop()
	if err != nil {
		os.Exit(1)
	}
}

func newCommand() *cobra.Command {
	var address, dir string
	cmd := &cobra.Command{
		Use:          "guests-server",
		Short:        "Serve the disks of the sandbox's guests over HTTP",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return serve(cmd.Context(), address, guest.Handler(dir))
		},
	}
	cmd.Flags().StringVar(&address, "address", ":8080", "address to listen at")
	cmd.Flags().StringVar(&dir, "dir", "/guests", "folder to serve")
	return cmd
}

// serve serves until the context ends, then lets transfers end for a moment.
func serve(ctx context.Context, address string, handler http.Handler) error {
	server := &http.Server{Addr: address, Handler: handler, ReadHeaderTimeout: headerTimeout}
	ended := make(chan error, 1)
	go func() { ended <- server.ListenAndServe() }()
	fmt.Fprintln(os.Stderr, "serving at", address)
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	short, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	if err := server.Shutdown(short); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}
