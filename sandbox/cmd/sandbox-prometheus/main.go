// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Command sandbox-prometheus runs Prometheus with a configuration that follows the
// monitors and rules in the cluster.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"

	"github.com/deckhouse/virtualization/sandbox/internal/monitoring"
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
	var configDir string
	cmd := &cobra.Command{
		Use:          "sandbox-prometheus -- PROMETHEUS FLAG...",
		Short:        "Run Prometheus with what the cluster's objects say",
		Args:         cobra.MinimumNArgs(1),
		SilenceUsage: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			config, err := rest.InClusterConfig()
			if err != nil {
				return err
			}
			return run(cmd.Context(), config, configDir, args)
		},
	}
	cmd.Flags().StringVar(&configDir, "config-dir", "/etc/prometheus", "folder where the configuration is written")
	return cmd
}

// run ends when Prometheus does, or takes it along when it is told to end.
func run(ctx context.Context, config *rest.Config, dir string, args []string) error {
	objects, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	server := newServer(append(args, "--config.file="+filepath.Join(dir, monitoring.ConfigFile)), cancel)
	operator := &monitoring.Operator{
		Dynamic: objects, Client: client, Dir: dir, Changed: server.reload,
		Log: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	}
	err = operator.Run(ctx)
	if ended := context.Cause(ctx); ended != nil && !errors.Is(ended, context.Canceled) {
		err = errors.Join(err, ended)
	}
	return errors.Join(err, server.stop())
}

// server is Prometheus itself.
type server struct {
	command *exec.Cmd
	ended   chan struct{}
	cancel  context.CancelCauseFunc
}

func newServer(args []string, cancel context.CancelCauseFunc) *server {
	command := exec.Command(args[0], args[1:]...) //nolint:gosec // the pod's own arguments
	command.Stdout, command.Stderr = os.Stdout, os.Stderr
	return &server{command: command, ended: make(chan struct{}), cancel: cancel}
}

// reload starts the server, or has it read its configuration again.
func (s *server) reload() error {
	if s.command.Process != nil {
		return s.command.Process.Signal(syscall.SIGHUP)
	}
	if err := s.command.Start(); err != nil {
		return err
	}
	go func() {
		defer close(s.ended)
		s.cancel(fmt.Errorf("%s ended: %w", s.command.Path, errors.Join(s.command.Wait(), errEnded)))
	}()
	return nil
}

// errEnded is the reason when the server ends without an error of its own.
var errEnded = errors.New("nobody told it to")

// stop lets the server write down what it knows.
func (s *server) stop() error {
	if s.command.Process == nil {
		return nil
	}
	err := s.command.Process.Signal(syscall.SIGTERM)
	<-s.ended
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	return err
}
