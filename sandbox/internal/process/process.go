// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package process keeps a set of processes running: one that ends is started
// again, later each time it ends soon, and every end is counted.
package process

import (
	"errors"
	"fmt"
	"io"
	"os/exec"
	"slices"
	"time"
)

// Spec describes a process that is to run.
type Spec struct {
	// Name is unique in its box and names the log file.
	Name string
	// Argv is the program with its arguments; the program is an absolute path.
	Argv []string
	// Env is the whole environment: nothing is inherited, so that a process
	// does not depend on the shell that typed "up".
	Env []string
	// Dir is the working directory; empty means /.
	Dir string
	// WaitFor is a unix socket that has to take connections before the process
	// is started: some programs give up at once when a service is not there yet.
	WaitFor string
	// Revision changes when something the process reads only at its start has
	// changed, such as its configuration file.
	Revision string
}

// Equal says whether a process started from one need not be restarted for the other.
func (s Spec) Equal(o Spec) bool {
	return s.Name == o.Name && s.Dir == o.Dir && s.Revision == o.Revision && s.WaitFor == o.WaitFor &&
		slices.Equal(s.Argv, o.Argv) && slices.Equal(s.Env, o.Env)
}

// Validate names what is wrong with a specification.
func (s Spec) Validate() error {
	switch {
	case s.Name == "":
		return fmt.Errorf("process has no name")
	case len(s.Argv) == 0 || s.Argv[0] == "":
		return fmt.Errorf("process %s has no program in argv", s.Name)
	}
	return nil
}

// State of a process.
type State string

// The states of a process.
const (
	Running State = "Running"
	// Waiting for the back-off to end.
	Waiting State = "Waiting"
	// Stopped because it was asked to.
	Stopped State = "Stopped"
)

// Status is what is known of a process.
type Status struct {
	Name string
	// Program is what is run.
	Program  string
	State    State
	PID      int
	Restarts int
	// LastExit says how the process ended the last time; empty if it never did.
	LastExit string
	// Since is the time of the last change of state.
	Since time.Time
	// MemoryBytes is the resident memory, filled in by whoever reads /proc.
	MemoryBytes uint64
}

// Handle is a started process.
type Handle interface {
	PID() int
	// Wait returns how the process ended, once.
	Wait() error
	// Terminate asks the process to end; Kill ends it.
	Terminate() error
	Kill() error
}

// Starter starts processes. The real one is OS; tests have their own.
type Starter interface {
	Start(spec Spec, log io.Writer) (Handle, error)
	// Serves says whether a unix socket takes connections.
	Serves(socket string) bool
}

// describeExit puts the end of a process into words.
func describeExit(err error) string {
	if err == nil {
		return "exit status 0"
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.String()
	}
	return err.Error()
}
