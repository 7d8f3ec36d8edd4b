// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package box

import (
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

// InitCommand is the command of the sandbox binary that calls Init.
const InitCommand = "box-init"

// Spawner starts boxes from one thread that lives as long as the process. The
// kernel sends a child's parent-death signal when the thread that started it
// ends, and Go's threads come and go.
type Spawner struct{ work chan func() }

// NewSpawner returns a spawner with its thread.
func NewSpawner() *Spawner {
	s := &Spawner{work: make(chan func())}
	go func() {
		runtime.LockOSThread()
		for f := range s.work {
			f()
		}
	}()
	return s
}

func (s *Spawner) start(cmd *exec.Cmd) error {
	done := make(chan error, 1)
	s.work <- func() { done <- cmd.Start() }
	return <-done
}

// Box is a started box, seen from the supervisor.
type Box struct {
	cmd    *exec.Cmd
	client *rpc.Client
	ended  chan struct{}
	err    error
}

// Start starts the first process of a box, which then waits for SetUp. What it
// has to say about itself goes to log.
func (s *Spawner) Start(spec Spec, log io.Writer) (*Box, error) {
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	cmd := exec.Command("/proc/self/exe", InitCommand, spec.Name)
	cmd.Env = []string{}
	cmd.ExtraFiles = []*os.File{theirs}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: cloneFlags(spec), Pdeathsig: syscall.SIGKILL, Setsid: true}
	if err := s.start(cmd); err != nil {
		ours.Close()
		return nil, fmt.Errorf("start box %s: %w: namespaces need root", spec.Name, err)
	}
	b := &Box{cmd: cmd, client: rpc.NewClient(ours), ended: make(chan struct{})}
	go func() {
		b.err = cmd.Wait()
		b.client.Close()
		close(b.ended)
	}()
	return b, nil
}

func cloneFlags(spec Spec) uintptr {
	flags := uintptr(unix.CLONE_NEWPID | unix.CLONE_NEWNS)
	if spec.Uplink != nil {
		flags |= unix.CLONE_NEWNET | unix.CLONE_NEWUTS | unix.CLONE_NEWIPC
	}
	return flags
}

// socketPair returns both ends of a connection, one of them to be inherited.
func socketPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("make connection with box: %w", err)
	}
	ours := os.NewFile(uintptr(fds[0]), "box")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	theirs := os.NewFile(uintptr(fds[1]), "supervisor")
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("open connection with box: %w", err)
	}
	return conn, theirs, nil
}

// PID is the box's first process as the machine numbers it.
func (b *Box) PID() int { return b.cmd.Process.Pid }

// Ended is closed when the box has ended.
func (b *Box) Ended() <-chan struct{} { return b.ended }

// Err says how the box ended.
func (b *Box) Err() error { return b.err }

// Kill ends the box and everything in it, and returns when it is gone.
func (b *Box) Kill() {
	_ = b.cmd.Process.Kill()
	<-b.ended
}

// SetUp makes the box what the specification says.
func (b *Box) SetUp(spec Spec) error { return b.call("SetUp", spec, &Nothing{}) }

// Ensure makes a process run in the box.
func (b *Box) Ensure(spec process.Spec) error { return b.call("Ensure", spec, &Nothing{}) }

// Remove stops a process in the box.
func (b *Box) Remove(name string) error { return b.call("Remove", name, &Nothing{}) }

// Restart starts a process of the box again.
func (b *Box) Restart(name string) error { return b.call("Restart", name, &Nothing{}) }

// Status lists the processes of the box.
func (b *Box) Status() ([]process.Status, error) {
	var list []process.Status
	err := b.call("Status", Nothing{}, &list)
	return list, err
}

func (b *Box) call(method string, argument, answer any) error {
	return b.client.Call(serviceName+"."+method, argument, answer)
}
