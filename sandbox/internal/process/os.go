// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"io"
	"net"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// OS starts real processes. As the first process of a PID namespace it also has
// to bury the orphans that containers' shims and daemons leave to it; Reap does
// that without stealing the exit status of the processes that OS started.
type OS struct {
	mu  sync.Mutex
	own map[int]bool
}

// NewOS returns a starter of real processes.
func NewOS() *OS { return &OS{own: map[int]bool{}} }

// Start starts a process whose output goes to log.
func (o *OS) Start(spec Spec, log io.Writer) (Handle, error) {
	cmd := &exec.Cmd{
		Path: spec.Argv[0], Args: spec.Argv, Env: spec.Env, Dir: spec.Dir,
		Stdout: log, Stderr: log,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
		// A child of the process may keep the pipe open after its end; the end
		// is what counts.
		WaitDelay: 2 * time.Second,
	}
	if cmd.Dir == "" {
		cmd.Dir = "/"
	}
	return o.StartCommand(cmd)
}

// Serves says whether a unix socket takes connections.
func (o *OS) Serves(socket string) bool {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return false
	}
	conn.Close()
	return true
}

// StartCommand starts a prepared command in a way that Reap knows of.
func (o *OS) StartCommand(cmd *exec.Cmd) (Handle, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	o.own[cmd.Process.Pid] = true
	return &osHandle{os: o, cmd: cmd}, nil
}

// Reap buries orphans until the channel is closed. Only a PID 1 needs it.
func (o *OS) Reap(children <-chan os.Signal) {
	for range children {
		// The signal does not say how many children ended.
		for o.reapOne() {
		}
	}
}

// reapOne looks at one ended child and buries it unless it belongs to OS.
func (o *OS) reapOne() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, pid := range zombies() {
		if o.own[pid] {
			continue
		}
		var status unix.WaitStatus
		got, err := unix.Wait4(pid, &status, unix.WNOHANG, nil)
		if err == nil && got == pid {
			return true
		}
	}
	return false
}

type osHandle struct {
	os  *OS
	cmd *exec.Cmd
}

func (h *osHandle) PID() int { return h.cmd.Process.Pid }

func (h *osHandle) Wait() error {
	err := h.cmd.Wait()
	h.os.mu.Lock()
	defer h.os.mu.Unlock()
	delete(h.os.own, h.cmd.Process.Pid)
	return err
}

func (h *osHandle) Terminate() error { return h.cmd.Process.Signal(syscall.SIGTERM) }

func (h *osHandle) Kill() error { return h.cmd.Process.Kill() }
