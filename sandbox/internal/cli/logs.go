// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

const followInterval = 200 * time.Millisecond

func newLogs() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs [[BOX/]PROCESS]",
		Short: "Print the log of a process, or list the logs",
		Example: "  sandbox logs                    list all logs\n" +
			"  sandbox logs node-1/kubelet     print one\n" +
			"  sandbox logs -f deckhouse       the box may be left out where the name is unique",
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			dir, err := state.FromEnvironment()
			if err != nil {
				return err
			}
			names, err := logNames(dir)
			if err != nil {
				return err
			}
			if len(args) == 0 {
				for _, n := range names {
					fmt.Fprintln(cmd.OutOrStdout(), n)
				}
				return nil
			}
			name, err := chooseLog(names, args[0])
			if err != nil {
				return err
			}
			return printLog(cmd.Context(), cmd.OutOrStdout(), dir.Logs(name+".log"), follow)
		},
	}
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what is logged from now on")
	return cmd
}

// logNames lists the logs as BOX/PROCESS.
func logNames(dir state.Dir) ([]string, error) {
	var names []string
	for _, pattern := range []string{"*.log", "*/*.log"} {
		files, err := filepath.Glob(dir.Logs(pattern))
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			name := strings.TrimSuffix(strings.TrimPrefix(f, dir.Logs()+"/"), ".log")
			// Older parts of a log carry the time in their name.
			if !isOldPart(name) {
				names = append(names, name)
			}
		}
	}
	sort.Strings(names)
	return names, nil
}

// isOldPart recognizes the names that full logs are given: NAME-2006-01-02T15-04-05.000.
func isOldPart(name string) bool {
	const stamp = "2006-01-02T15-04-05.000"
	if len(name) <= len(stamp) {
		return false
	}
	_, err := time.Parse(stamp, name[len(name)-len(stamp):])
	return err == nil
}

// chooseLog finds the log that is meant.
func chooseLog(names []string, wanted string) (string, error) {
	var found []string
	for _, n := range names {
		if n == wanted {
			return n, nil
		}
		if filepath.Base(n) == wanted {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return "", fmt.Errorf("no log %q: \"sandbox logs\" lists them", wanted)
	case 1:
		return found[0], nil
	}
	return "", fmt.Errorf("%q is in several boxes: name one of %s", wanted, strings.Join(found, ", "))
}

// printLog prints a log, and what is added to it if asked. A log that got full
// is begun anew under its name; then the new file is followed.
func printLog(ctx context.Context, out io.Writer, path string, follow bool) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { f.Close() }()
	for {
		if _, err := io.Copy(out, f); err != nil {
			return err
		}
		if !follow {
			return nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(followInterval):
		}
		next, err := reopened(f, path)
		if err != nil {
			return err
		}
		if next == nil {
			continue
		}
		// What came between the last look and the change of files.
		if _, err := io.Copy(out, f); err != nil {
			next.Close()
			return err
		}
		f.Close()
		f = next
	}
}

// reopened opens the path again if it is another file by now.
func reopened(f *os.File, path string) (*os.File, error) {
	now, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	open, err := f.Stat()
	if err != nil || os.SameFile(now, open) {
		return nil, err
	}
	return os.Open(path)
}
