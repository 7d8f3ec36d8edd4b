// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/cgroup"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

const serviceName = "Supervisor"

// protocol is raised with every change of what commands and a running supervisor
// say to each other.
const protocol = 3

// ErrRunning says that another supervisor has the state directory.
var ErrRunning = errors.New("a supervisor runs already")

// Serve is the supervisor's whole life: it ends on a signal or when asked to.
func Serve(dir state.Dir) error {
	tree, err := cgroup.Detect()
	if err != nil {
		return err
	}
	return serve(dir, tree)
}

func serve(dir state.Dir, tree cgroups) error {
	lock, err := takePIDFile(dir)
	if err != nil {
		return err
	}
	defer lock.Close()
	s, err := newSupervisor(dir, tree)
	if err != nil {
		return err
	}
	// A socket that a killed supervisor left behind is in the way.
	if err := os.Remove(dir.SupervisorSocket()); err != nil && !os.IsNotExist(err) {
		return err
	}
	listener, err := net.Listen("unix", dir.SupervisorSocket())
	if err != nil {
		return fmt.Errorf("listen for commands: %w", err)
	}
	service := &Service{supervisor: s, done: make(chan struct{})}
	go acceptCommands(listener, service)
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	// A terminal that closes is no reason to take the cluster down.
	signal.Ignore(syscall.SIGHUP)
	select {
	case <-signals:
	case <-service.done:
	}
	listener.Close()
	return s.shutDown()
}

func acceptCommands(listener net.Listener, service *Service) {
	server := rpc.NewServer()
	if err := server.RegisterName(serviceName, service); err != nil {
		panic(err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		go server.ServeConn(conn)
	}
}

// takePIDFile locks the PID file for as long as this process lives.
func takePIDFile(dir state.Dir) (*os.File, error) {
	path := dir.SupervisorPID()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := lockFile(f); err != nil {
		f.Close()
		return nil, ErrRunning
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, err
	}
	_, err = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	return f, err
}

// lockFile tries more than once: whoever asks whether a supervisor runs holds the
// lock for a moment too.
func lockFile(f *os.File) (err error) {
	for range 10 {
		if err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err == nil {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

// Nothing stands for no argument or no answer in a call.
type Nothing struct{}

// ProcessRequest names a process in a box.
type ProcessRequest struct {
	Box     string
	Process process.Spec
}

// ForwardRequest asks for an address of the machine to lead into the nodes'
// network, or the other way round.
type ForwardRequest struct {
	Listen, Target string
	// FromNodes says that Listen is in the nodes' network and Target on the machine.
	FromNodes bool
}

// Service is what commands may ask of the supervisor.
type Service struct {
	supervisor *Supervisor
	done       chan struct{}
	once       sync.Once
}

// EnsureBox makes a box run.
func (s *Service) EnsureBox(spec box.Spec, _ *Nothing) error { return s.supervisor.ensureBox(spec) }

// EnsureProcess makes a process run in a box.
func (s *Service) EnsureProcess(r ProcessRequest, _ *Nothing) error {
	return s.supervisor.ensureProcess(r.Box, r.Process)
}

// RemoveProcess stops a process.
func (s *Service) RemoveProcess(r ProcessRequest, _ *Nothing) error {
	k, err := s.supervisor.box(r.Box)
	if err != nil {
		return err
	}
	return k.remove(r.Process.Name)
}

// RestartProcess starts a process again.
func (s *Service) RestartProcess(r ProcessRequest, _ *Nothing) error {
	k, err := s.supervisor.box(r.Box)
	if err != nil {
		return err
	}
	return k.restart(r.Process.Name)
}

// EnsureForward makes an address lead into the nodes' network or out of it.
func (s *Service) EnsureForward(r ForwardRequest, _ *Nothing) error {
	return s.supervisor.ensureForward(r)
}

// Protocol tells which commands the supervisor understands.
func (s *Service) Protocol(_ Nothing, version *int) error {
	*version = protocol
	return nil
}

// Status tells everything.
func (s *Service) Status(_ Nothing, status *Status) error {
	*status = s.supervisor.status()
	return nil
}

// Wait answers when the supervisor ends, in an orderly way or not at all: its
// caller sees the connection break in any case.
func (s *Service) Wait(_ Nothing, _ *Nothing) error {
	<-s.done
	return nil
}

// ShutDown ends the supervisor and everything with it.
func (s *Service) ShutDown(_ Nothing, _ *Nothing) error {
	s.once.Do(func() { close(s.done) })
	return nil
}
