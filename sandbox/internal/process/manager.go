// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

const (
	firstDelay = 500 * time.Millisecond
	lastDelay  = 30 * time.Second
	// How often to look whether what a process needs is there.
	needsInterval = 200 * time.Millisecond
	// A process that ran this long has recovered: its next end counts as the first.
	recoveredAfter = time.Minute
	// How long a process has to end by itself before it is killed.
	terminationGrace = 10 * time.Second
)

// Manager keeps processes running.
type Manager struct {
	starter Starter
	clock   clock.Clock
	openLog func(name string) io.WriteCloser

	mu    sync.Mutex
	procs map[string]*keeper
}

// NewManager returns a manager without processes. openLog gives the log of a
// process; the manager closes it when the process is taken away.
func NewManager(starter Starter, clk clock.Clock, openLog func(name string) io.WriteCloser) *Manager {
	return &Manager{starter: starter, clock: clk, openLog: openLog, procs: map[string]*keeper{}}
}

// Ensure makes a process run as specified: it starts what does not run,
// restarts what runs otherwise and leaves the rest alone.
func (m *Manager) Ensure(spec Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.procs[spec.Name]; ok {
		if k.spec.Equal(spec) {
			return nil
		}
		k.stop()
	}
	k := newKeeper(spec, m.starter, m.clock, m.openLog(spec.Name))
	m.procs[spec.Name] = k
	go k.run()
	return nil
}

// Remove stops a process and forgets it. An unknown name is no error: what is
// asked for is the case already.
func (m *Manager) Remove(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if k, ok := m.procs[name]; ok {
		k.stop()
		delete(m.procs, name)
	}
}

// Restart ends a process so that it is started again at once.
func (m *Manager) Restart(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	k, ok := m.procs[name]
	if !ok {
		return fmt.Errorf("no process %q: see \"sandbox status\" for the names", name)
	}
	spec := k.spec
	k.stop()
	k = newKeeper(spec, m.starter, m.clock, m.openLog(spec.Name))
	m.procs[name] = k
	go k.run()
	return nil
}

// StopAll ends every process, the newest names last.
func (m *Manager) StopAll() {
	for _, s := range m.Status() {
		m.Remove(s.Name)
	}
}

// Status lists the processes by name.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	list := make([]Status, 0, len(m.procs))
	for _, k := range m.procs {
		list = append(list, k.snapshot())
	}
	sort.Slice(list, func(i, j int) bool { return list[i].Name < list[j].Name })
	return list
}
