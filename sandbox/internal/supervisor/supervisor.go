// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package supervisor is the sandbox's one long-running process. It holds the
// switch's network namespace, keeps the boxes running and lets the machine reach
// the API server. Everything it starts ends with it, so after a crash there is
// nothing to clean up but files and empty cgroups.
package supervisor

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"time"

	"gopkg.in/natefinch/lumberjack.v2"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/network"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// cgroups is what the supervisor does with cgroups; the real ones are cgroup.Tree.
type cgroups interface {
	Create(name string) error
	Enter(name string, pid int) error
	Remove(name string) error
	NoteDelegation(file string) error
}

// Supervisor keeps boxes and forwards.
type Supervisor struct {
	dir     state.Dir
	started time.Time
	spawner *box.Spawner
	cgroups cgroups
	wires   *network.Switch

	mu       sync.Mutex
	boxes    map[string]*keeper
	forwards map[string]*forward
}

// newSupervisor moves this process out of the cgroup of whoever started it and
// makes the switch.
func newSupervisor(dir state.Dir, tree cgroups) (*Supervisor, error) {
	if err := tree.NoteDelegation(dir.CgroupRestore()); err != nil {
		return nil, err
	}
	own := filepath.Join(dir.CgroupName(), "supervisor")
	if err := tree.Create(own); err != nil {
		return nil, err
	}
	if err := tree.Enter(own, os.Getpid()); err != nil {
		return nil, err
	}
	wires, err := network.NewSwitch(netip.PrefixFrom(topology.SwitchAddress, topology.NodeNetwork.Bits()))
	if err != nil {
		return nil, err
	}
	return &Supervisor{
		dir: dir, started: time.Now(), spawner: box.NewSpawner(), cgroups: tree, wires: wires,
		boxes: map[string]*keeper{}, forwards: map[string]*forward{},
	}, nil
}

// launch starts a box, connects it and sets it up.
func (s *Supervisor) launch(spec box.Spec, log io.Writer) (runningBox, error) {
	if err := s.prepareCgroups(spec); err != nil {
		return nil, err
	}
	b, err := s.spawner.Start(spec, log)
	if err != nil {
		return nil, err
	}
	if err := s.equip(b, spec); err != nil {
		b.Kill()
		return nil, fmt.Errorf("set up box %s: %w", spec.Name, err)
	}
	return b, nil
}

// prepareCgroups starts from empty cgroups: those of containers that ended with
// an earlier run of the box would make the kubelet wait for each of them.
func (s *Supervisor) prepareCgroups(spec box.Spec) error {
	for _, name := range []string{spec.Delegated, spec.Cgroup} {
		if name == "" {
			continue
		}
		if err := s.cgroups.Remove(name); err != nil {
			return err
		}
	}
	for _, name := range []string{spec.Delegated, spec.Cgroup} {
		if name == "" {
			continue
		}
		if err := s.cgroups.Create(name); err != nil {
			return err
		}
	}
	return nil
}

func (s *Supervisor) equip(b *box.Box, spec box.Spec) error {
	if spec.Cgroup != "" {
		if err := s.cgroups.Enter(spec.Cgroup, b.PID()); err != nil {
			return err
		}
	}
	if spec.Uplink != nil {
		if err := s.wires.Connect(spec.Name, b.PID()); err != nil {
			return err
		}
	}
	return b.SetUp(spec)
}

// ensureBox makes a box run as specified.
func (s *Supervisor) ensureBox(spec box.Spec) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if k, ok := s.boxes[spec.Name]; ok {
		if k.spec.Equal(spec) {
			return nil
		}
		k.stop()
		delete(s.boxes, spec.Name)
	}
	if err := os.MkdirAll(spec.Logs, 0o755); err != nil {
		return err
	}
	log := &lumberjack.Logger{Filename: filepath.Join(spec.Logs, "box.log"), MaxSize: 1, MaxBackups: 1}
	k, err := newKeeper(spec, log, clock.RealClock{}, s.launch)
	if err != nil {
		return err
	}
	s.boxes[spec.Name] = k
	return nil
}

func (s *Supervisor) box(name string) (*keeper, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	k, ok := s.boxes[name]
	if !ok {
		return nil, fmt.Errorf("no box %q: see \"sandbox status\" for the names", name)
	}
	return k, nil
}

func (s *Supervisor) ensureProcess(name string, spec process.Spec) error {
	k, err := s.box(name)
	if err != nil {
		return err
	}
	return k.ensure(spec)
}

func (s *Supervisor) ensureForward(r ForwardRequest) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if f, ok := s.forwards[r.Listen]; ok {
		if f.request == r {
			return nil
		}
		f.close()
		delete(s.forwards, r.Listen)
	}
	f, err := newForward(r, s.wires.Do)
	if err != nil {
		return err
	}
	s.forwards[r.Listen] = f
	return nil
}

func (s *Supervisor) status() Status {
	s.mu.Lock()
	keepers := make([]*keeper, 0, len(s.boxes))
	for _, name := range sortedKeys(s.boxes) {
		keepers = append(keepers, s.boxes[name])
	}
	s.mu.Unlock()
	// Boxes are asked without the lock: one that hangs must not hold up "down".
	status := Status{PID: os.Getpid(), Since: s.started}
	for _, k := range keepers {
		status.Boxes = append(status.Boxes, k.status())
	}
	return status
}

// shutDown ends every box, the last name first: the control plane is in the
// first node and the others should not miss it before their own end.
func (s *Supervisor) shutDown() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	names := sortedKeys(s.boxes)
	for i := len(names) - 1; i >= 0; i-- {
		s.boxes[names[i]].stop()
	}
	for _, f := range s.forwards {
		f.close()
	}
	s.wires.Close()
	var errs error
	for _, name := range names {
		errs = errors.Join(errs, s.cgroups.Remove(s.boxes[name].spec.Cgroup))
	}
	return errs
}
