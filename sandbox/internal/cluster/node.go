// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cluster

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"strconv"
	"strings"
)

// NodeShell runs commands in a running node, from the machine.
type NodeShell struct {
	// PID is the node's first process.
	PID int
	// Path is where commands are looked for in the node.
	Path []string
}

// Command prepares a command that runs in all namespaces of the node.
func (s NodeShell) Command(ctx context.Context, argv ...string) *exec.Cmd {
	path := "PATH=" + strings.Join(append(s.Path, "/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"), ":")
	args := []string{
		"--target", strconv.Itoa(s.PID), "--mount", "--uts", "--ipc", "--net", "--pid", "--wdns=/", "--",
		"/usr/bin/env", path, "HOME=/root",
	}
	return exec.CommandContext(ctx, "nsenter", append(args, argv...)...)
}

// Output runs a command in the node and returns what it prints.
func (s NodeShell) Output(ctx context.Context, stdin io.Reader, argv ...string) (string, error) {
	cmd := s.Command(ctx, argv...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("%s in node: %w: %s", argv[0], err, strings.TrimSpace(errs.String()))
	}
	return out.String(), nil
}
