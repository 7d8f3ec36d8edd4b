// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/sandbox/internal/kube"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
)

const statusTimeout = 5 * time.Second

// errUnhealthy ends "status" with an exit code that scripts can see.
var errUnhealthy = errors.New("the sandbox is not healthy")

func newStatus() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "What runs, since when, and how often it was restarted",
		Long: `Lists every process of the sandbox with its state, its process ID on the machine,
how often it was restarted, how it ended the last time, how long it has been in
its state and how much memory it has. The exit code is 0 if all of them run and
every node is ready, 1 if not.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dir, err := state.FromEnvironment()
			if err != nil {
				return err
			}
			client, err := supervisor.Dial(dir)
			if err != nil {
				return err
			}
			defer client.Close()
			status, err := client.Status()
			if err != nil {
				return err
			}
			printStatus(cmd.OutOrStdout(), status, time.Now())
			problems := append(status.Problems(), nodeProblems(cmd.Context(), dir)...)
			for _, p := range problems {
				fmt.Fprintln(cmd.OutOrStdout(), "!", p)
			}
			if len(problems) > 0 {
				return errUnhealthy
			}
			return nil
		},
	}
}

// nodeProblems says what the API server says is wrong with the nodes.
func nodeProblems(ctx context.Context, dir state.Dir) []string {
	ctx, cancel := context.WithTimeout(ctx, statusTimeout)
	defer cancel()
	client, err := kube.New(dir.Kubeconfig())
	if err != nil {
		return []string{err.Error()}
	}
	nodes, err := client.Nodes(ctx)
	if err != nil {
		return []string{"the API server does not answer: " + err.Error()}
	}
	var problems []string
	for _, name := range sortedNames(nodes) {
		if nodes[name] != nil {
			problems = append(problems, name+": "+nodes[name].Error())
		}
	}
	return problems
}

func printStatus(out io.Writer, s supervisor.Status, now time.Time) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	defer w.Flush()
	fmt.Fprintln(w, "PROCESS\tSTATE\tPID\tRESTARTS\tFOR\tMEMORY\tLAST EXIT")
	fmt.Fprintf(w, "supervisor\t%s\t%d\t0\t%s\t\t\n", process.Running, s.PID, age(now.Sub(s.Since)))
	for _, b := range s.Boxes {
		boxState := process.Running
		if b.PID == 0 {
			boxState = process.Waiting
		}
		fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%s\t\t%s\n", b.Name, boxState, b.PID, b.Restarts, age(now.Sub(b.Since)), b.LastExit)
		for _, p := range b.Processes {
			fmt.Fprintf(w, "%s/%s\t%s\t%d\t%d\t%s\t%d Mi\t%s\n",
				b.Name, p.Name, p.State, p.PID, p.Restarts, age(p.Uptime(now)), p.MemoryBytes>>20, p.LastExit)
		}
	}
}

func age(d time.Duration) string { return d.Truncate(time.Second).String() }

// ExitCode is the code that the command ends with.
func ExitCode(err error) int {
	var code interface{ ExitCode() int }
	if errors.As(err, &code) && code.ExitCode() > 0 {
		return code.ExitCode()
	}
	return 1
}
