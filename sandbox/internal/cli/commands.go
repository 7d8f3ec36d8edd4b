// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/sandbox/internal/build"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
)

func newLoad() *cobra.Command {
	var repository string
	cmd := &cobra.Command{
		Use:   "load IMAGE|ARCHIVE...",
		Short: "Build images of the module and put them to use, or load archives",
		Long: `Builds images of the module by name, such as virtualization-controller, brings
them into every node and has Deckhouse's side run them: this is how a change of
the sources gets into the running sandbox.

An argument that is a file is an archive (OCI or Docker, tar): its images come
into the containerd of every node under the names that the archive gives them.
Images whose names are digests are skipped where they are there already.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			s, err := newSession(cmd.OutOrStdout(), repository)
			if err != nil {
				return err
			}
			if s.client, err = supervisor.Dial(s.state); err != nil {
				return err
			}
			defer s.client.Close()
			archives, images := splitArchives(args)
			return s.report.Phase("load", func() error {
				if err := s.load(cmd.Context(), archives); err != nil || len(images) == 0 {
					return err
				}
				return s.reload(cmd.Context(), images...)
			})
		},
	}
	cmd.Flags().StringVar(&repository, "repository", "", "the module's repository (default: the one around the working directory)")
	return cmd
}

// splitArchives tells files from names of images.
func splitArchives(args []string) (archives, images []string) {
	for _, arg := range args {
		if info, err := os.Stat(arg); err == nil && info.Mode().IsRegular() {
			archives = append(archives, arg)
		} else {
			images = append(images, arg)
		}
	}
	return archives, images
}

func newKubectl() *cobra.Command {
	return &cobra.Command{
		Use:   "kubectl ARGUMENT...",
		Short: "Run kubectl as the administrator of the cluster",
		// All flags are kubectl's.
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := state.FromEnvironment()
			if err != nil {
				return err
			}
			kubectl, err := runningProgram(dir, "kubectl")
			if err != nil {
				return err
			}
			env := append(os.Environ(), "KUBECONFIG="+dir.Kubeconfig())
			return syscall.Exec(kubectl, append([]string{"kubectl"}, args...), env)
		},
	}
}

// runningProgram finds a program that was built with those that run.
func runningProgram(dir state.Dir, name string) (string, error) {
	client, err := supervisor.Dial(dir)
	if err != nil {
		return "", err
	}
	defer client.Close()
	status, err := client.Status()
	if err != nil {
		return "", err
	}
	for _, b := range status.Boxes {
		for _, d := range programDirs(b) {
			path := filepath.Join(d, name)
			if _, err := os.Stat(path); err == nil {
				return path, nil
			}
		}
	}
	return "", fmt.Errorf("no %s: type \"sandbox up\"", name)
}

func newExec() *cobra.Command {
	return &cobra.Command{
		Use:     "exec NODE -- COMMAND...",
		Short:   "Run a command in a node",
		Example: "  sandbox exec node-1 -- ctr -n k8s.io images list\n  sandbox exec node-2 -- bash",
		Args:    cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := state.FromEnvironment()
			if err != nil {
				return err
			}
			client, err := supervisor.Dial(dir)
			if err != nil {
				return err
			}
			status, err := client.Status()
			client.Close()
			if err != nil {
				return err
			}
			shells := nodeShells(status)
			shell, ok := shells[args[0]]
			if !ok {
				return fmt.Errorf("no running node %q: there are %s", args[0], strings.Join(sortedNames(shells), ", "))
			}
			c := shell.Command(cmd.Context(), args[1:]...)
			if c.Err != nil {
				return c.Err
			}
			return syscall.Exec(c.Path, c.Args, os.Environ())
		},
	}
}

func newRestart() *cobra.Command {
	return &cobra.Command{
		Use:     "restart BOX/PROCESS",
		Short:   "Start a process again",
		Example: "  sandbox restart node-1/kubelet",
		Args:    cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error {
			boxName, name, found := strings.Cut(args[0], "/")
			if !found {
				return errors.New("name the box and the process, as \"sandbox status\" does: node-1/kubelet")
			}
			dir, err := state.FromEnvironment()
			if err != nil {
				return err
			}
			client, err := supervisor.Dial(dir)
			if err != nil {
				return err
			}
			defer client.Close()
			return client.RestartProcess(boxName, name)
		},
	}
}

func newBuild() *cobra.Command {
	var repository string
	cmd := &cobra.Command{
		Use:   "build TARGET...",
		Short: "Build parts without starting anything",
		Long: "Builds parts of the sandbox or the module, or finds them in the cache, and prints a\nline \"NAME PATH\" for each result. Targets: " +
			strings.Join(build.Targets(), ", ") + ".",
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, targets []string) error {
			s, err := newSession(cmd.ErrOrStderr(), repository)
			if err != nil {
				return err
			}
			var results []build.Result
			err = s.report.Phase("build", func() (err error) {
				results, err = s.builder.Build(cmd.Context(), targets...)
				return err
			})
			for _, r := range results {
				fmt.Fprintln(cmd.OutOrStdout(), r.Name, r.Path)
			}
			return err
		},
	}
	cmd.Flags().StringVar(&repository, "repository", "", "the module's repository (default: the one around the working directory)")
	return cmd
}
