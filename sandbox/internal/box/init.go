// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package box

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/rpc"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
	"gopkg.in/natefinch/lumberjack.v2"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/network"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

const (
	// controlFD is the descriptor of the connection with the supervisor.
	controlFD = 3
	// serviceName of the box in that connection.
	serviceName = "Box"

	logMegabytes = 16
	logBackups   = 1
)

// Init is the first process of a box. It does what the supervisor asks for over
// the inherited connection and returns when that is closed.
func Init() error {
	file := os.NewFile(controlFD, "supervisor")
	conn, err := net.FileConn(file)
	if err != nil {
		return fmt.Errorf("open connection with the supervisor: %w: this command is not meant to be typed", err)
	}
	file.Close()
	i := &initProcess{os: process.NewOS()}
	go i.reap()
	server := rpc.NewServer()
	if err := server.RegisterName(serviceName, &Service{init: i}); err != nil {
		return err
	}
	server.ServeConn(conn)
	i.stop()
	return nil
}

type initProcess struct {
	os *process.OS

	mu      sync.Mutex
	manager *process.Manager
}

func (i *initProcess) reap() {
	children := make(chan os.Signal, 1)
	signal.Notify(children, syscall.SIGCHLD)
	i.os.Reap(children)
}

func (i *initProcess) stop() {
	if m, err := i.processes(); err == nil {
		m.StopAll()
	}
}

func (i *initProcess) processes() (*process.Manager, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.manager == nil {
		return nil, errors.New("box is not set up yet")
	}
	return i.manager, nil
}

// setUp turns the fresh namespaces into what the specification asks for.
func (i *initProcess) setUp(s Spec) error {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.manager != nil {
		return errors.New("box is set up already")
	}
	if err := setUpMounts(s); err != nil {
		return err
	}
	if s.Uplink != nil {
		if err := unix.Sethostname([]byte(s.Name)); err != nil {
			return fmt.Errorf("set host name: %w", err)
		}
		if err := network.Configure(*s.Uplink); err != nil {
			return err
		}
	}
	for _, c := range s.Sysctls {
		if err := setSysctl(c); err != nil {
			return err
		}
	}
	i.manager = process.NewManager(i.os, clock.RealClock{}, func(name string) io.WriteCloser {
		return openLog(s.Logs, name)
	})
	return nil
}

func setUpMounts(s Spec) error {
	if err := detach(); err != nil {
		return err
	}
	if s.Root == nil {
		// The old /proc shows the machine's processes under numbers that mean
		// others in here.
		return mount{source: "proc", target: "/proc", fstype: "proc"}.do()
	}
	if err := mountRoot(*s.Root, s.Logs); err != nil {
		return err
	}
	for _, f := range s.Root.Files {
		if err := writeFile(f); err != nil {
			return err
		}
	}
	return share()
}

func writeFile(f File) error {
	if err := os.MkdirAll(filepath.Dir(f.Path), 0o755); err != nil {
		return err
	}
	// What Debian ships may be a link that leads out of the node's own layer.
	if err := os.Remove(f.Path); err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(f.Path, []byte(f.Content), 0o644)
}

func openLog(dir, name string) io.WriteCloser {
	return &lumberjack.Logger{
		Filename: filepath.Join(dir, name+".log"), MaxSize: logMegabytes, MaxBackups: logBackups,
	}
}
