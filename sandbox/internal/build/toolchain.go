// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
)

// toolchain is what the go command says of itself.
type toolchain struct {
	Version    string `json:"GOVERSION"`
	Root       string `json:"GOROOT"`
	BuildCache string `json:"GOCACHE"`
	Modules    string `json:"GOMODCACHE"`
	Arch       string `json:"GOARCH"`
}

func askToolchain(ctx context.Context) (toolchain, error) {
	var t toolchain
	output, err := run(ctx, command{args: []string{"go", "env", "-json", "GOVERSION", "GOROOT", "GOCACHE", "GOMODCACHE", "GOARCH"}})
	if err != nil {
		return t, err
	}
	return t, json.Unmarshal(output, &t)
}

// command is a program to run; what it prints on standard error is shown as
// progress, and the end of it is part of the error.
type command struct {
	dir  string
	env  []string
	args []string
	// line gets each line that the program writes to standard error.
	line func(string)
}

// run runs a command to its end and returns its standard output. If the context
// ends, or this program dies, the command's children are ended too.
func run(ctx context.Context, c command) ([]byte, error) {
	// The signal for the death of the parent is that of the thread which started
	// the command: it has to stay until the command ends.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, c.args[0], c.args[1:]...)
	cmd.Dir = c.dir
	cmd.Env = append(os.Environ(), c.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	lines := &lineWriter{line: c.line}
	cmd.Stderr = lines
	output, err := cmd.Output()
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("%s: %w\n%s", strings.Join(c.args[:min(len(c.args), 3)], " "), err, lines.tail())
	}
	return output, nil
}

// tailLines is how much of a failed command's output goes into its error.
const tailLines = 30

// lineWriter splits what it gets into lines and remembers the last ones.
type lineWriter struct {
	line    func(string)
	partial string
	last    []string
}

// Write implements io.Writer.
func (w *lineWriter) Write(p []byte) (int, error) {
	lines := strings.Split(w.partial+string(p), "\n")
	w.partial = lines[len(lines)-1]
	for _, line := range lines[:len(lines)-1] {
		if w.last = append(w.last, line); len(w.last) > tailLines {
			w.last = w.last[1:]
		}
		if w.line != nil {
			w.line(line)
		}
	}
	return len(p), nil
}

func (w *lineWriter) tail() string {
	return strings.TrimSpace(strings.Join(append(w.last, w.partial), "\n"))
}
