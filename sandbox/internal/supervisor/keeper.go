// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"io"
	"sort"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

const (
	firstBoxDelay = time.Second
	lastBoxDelay  = 30 * time.Second
	// A box that ran this long has recovered from what ended it before.
	recoveredAfter = time.Minute
)

// runningBox is a started box. The real one is box.Box; tests have their own.
type runningBox interface {
	PID() int
	Ended() <-chan struct{}
	Err() error
	Kill()
	Ensure(spec process.Spec) error
	Remove(name string) error
	Restart(name string) error
	Status() ([]process.Status, error)
}

// launcher starts a box and sets it up.
type launcher func(spec box.Spec, log io.Writer) (runningBox, error)

// keeper keeps one box running with its processes: when the box ends it is
// started again with all of them.
type keeper struct {
	launch launcher
	clock  clock.Clock
	log    io.WriteCloser
	spec   box.Spec

	stopping chan struct{}
	done     chan struct{}

	mu        sync.Mutex
	running   runningBox
	processes map[string]process.Spec
	restarts  int
	lastExit  string
	since     time.Time
}

// newKeeper starts a box for the first time; an error of that is the caller's,
// since a wrong specification does not get better by trying again.
func newKeeper(spec box.Spec, log io.WriteCloser, clk clock.Clock, launch launcher) (*keeper, error) {
	k := &keeper{
		launch: launch, clock: clk, log: log, spec: spec, processes: map[string]process.Spec{},
		stopping: make(chan struct{}), done: make(chan struct{}),
	}
	b, err := k.start()
	if err != nil {
		log.Close()
		return nil, err
	}
	go k.run(b)
	return k, nil
}

// start starts the box and what ran in it before.
func (k *keeper) start() (runningBox, error) {
	b, err := k.launch(k.spec, k.log)
	if err != nil {
		return nil, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running, k.since = b, k.clock.Now()
	for _, name := range sortedKeys(k.processes) {
		if err := b.Ensure(k.processes[name]); err != nil {
			fmt.Fprintf(k.log, "start %s: %v\n", name, err)
		}
	}
	return b, nil
}

// run starts the box again whenever it ends, until it is stopped.
func (k *keeper) run(b runningBox) {
	defer close(k.done)
	defer k.log.Close()
	delay := firstBoxDelay
	for b != nil {
		started := k.clock.Now()
		select {
		case <-k.stopping:
			b.Kill()
			return
		case <-b.Ended():
		}
		k.noteEnd(fmt.Sprint(b.Err()))
		if k.clock.Since(started) >= recoveredAfter {
			delay = firstBoxDelay
		}
		b = k.startAgain(&delay)
	}
}

// startAgain tries until the box runs; it returns none when it was stopped.
func (k *keeper) startAgain(delay *time.Duration) runningBox {
	for {
		select {
		case <-k.stopping:
			return nil
		case <-k.clock.After(*delay):
		}
		*delay = min(2**delay, lastBoxDelay)
		b, err := k.start()
		if err == nil {
			return b
		}
		k.noteEnd(err.Error())
	}
}

func (k *keeper) current() runningBox {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.running
}

func (k *keeper) noteEnd(how string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.running, k.since = nil, k.clock.Now()
	k.restarts++
	k.lastExit = how
	fmt.Fprintf(k.log, "box %s ended: %s\n", k.spec.Name, how)
}

// stop ends the box for good and returns when it is gone.
func (k *keeper) stop() {
	close(k.stopping)
	<-k.done
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
