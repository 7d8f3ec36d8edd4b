// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

const (
	firstBoxDelay = time.Second
	lastBoxDelay  = 30 * time.Second
)

// keeper keeps one box running with its processes: when the box ends it is
// started again with all of them.
type keeper struct {
	launch func(spec box.Spec, log io.Writer) (*box.Box, error)
	log    io.WriteCloser
	spec   box.Spec

	mu        sync.Mutex
	running   *box.Box
	processes map[string]process.Spec
	stopped   bool
	restarts  int
	lastExit  string
	since     time.Time

	done chan struct{}
}

// newKeeper starts a box for the first time; an error of that is the caller's,
// since a wrong specification does not get better by trying again.
func newKeeper(spec box.Spec, log io.WriteCloser, launch func(box.Spec, io.Writer) (*box.Box, error)) (*keeper, error) {
	k := &keeper{launch: launch, log: log, spec: spec, processes: map[string]process.Spec{}, done: make(chan struct{})}
	if err := k.start(); err != nil {
		log.Close()
		return nil, err
	}
	go k.run()
	return k, nil
}

// start starts the box and what ran in it before.
func (k *keeper) start() error {
	b, err := k.launch(k.spec, k.log)
	if err != nil {
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.stopped {
		b.Kill()
		return errors.New("box was stopped")
	}
	k.running, k.since = b, time.Now()
	for _, name := range sortedKeys(k.processes) {
		if err := b.Ensure(k.processes[name]); err != nil {
			fmt.Fprintf(k.log, "start %s: %v\n", name, err)
		}
	}
	return nil
}

// run starts the box again whenever it ends, until it is stopped.
func (k *keeper) run() {
	defer close(k.done)
	defer k.log.Close()
	delay := firstBoxDelay
	for {
		b := k.current()
		if b != nil {
			<-b.Ended()
			if !k.noteEnd(fmt.Sprint(b.Err())) {
				return
			}
		}
		time.Sleep(delay)
		delay = min(2*delay, lastBoxDelay)
		if err := k.start(); err != nil {
			fmt.Fprintf(k.log, "start box %s: %v\n", k.spec.Name, err)
			if !k.noteEnd(err.Error()) {
				return
			}
		} else {
			delay = firstBoxDelay
		}
	}
}

func (k *keeper) current() *box.Box {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running
}

// noteEnd notes the end of the box and says whether to start it again.
func (k *keeper) noteEnd(how string) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running, k.since = nil, time.Now()
	if k.stopped {
		return false
	}
	k.restarts++
	k.lastExit = how
	return true
}

// stop ends the box for good.
func (k *keeper) stop() {
	k.mu.Lock()
	k.stopped = true
	b := k.running
	k.mu.Unlock()
	if b != nil {
		b.Kill()
		<-k.done
	}
}

// ensure makes a process run in the box, now and after each start of it.
func (k *keeper) ensure(spec process.Spec) error {
	if err := spec.Validate(); err != nil {
		return err
	}
	k.mu.Lock()
	k.processes[spec.Name] = spec
	b := k.running
	k.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.Ensure(spec)
}

func (k *keeper) remove(name string) error {
	k.mu.Lock()
	delete(k.processes, name)
	b := k.running
	k.mu.Unlock()
	if b == nil {
		return nil
	}
	return b.Remove(name)
}

func (k *keeper) restart(name string) error {
	b := k.current()
	if b == nil {
		return fmt.Errorf("box %s does not run right now: see \"sandbox status\"", k.spec.Name)
	}
	return b.Restart(name)
}

func (k *keeper) status() BoxStatus {
	k.mu.Lock()
	s := BoxStatus{Name: k.spec.Name, Restarts: k.restarts, LastExit: k.lastExit, Since: k.since}
	b := k.running
	k.mu.Unlock()
	if b == nil {
		return s
	}
	s.PID = b.PID()
	list, err := b.Status()
	if err != nil {
		s.LastExit = err.Error()
		return s
	}
	s.Processes = list
	translatePIDs(s.PID, s.Processes)
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	sort.Strings(keys)
	return keys
}
