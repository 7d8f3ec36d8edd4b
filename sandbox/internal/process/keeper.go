// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// keeper runs one process again and again until it is stopped.
type keeper struct {
	spec    Spec
	starter Starter
	clock   clock.Clock
	log     io.WriteCloser

	stopping chan struct{}
	done     chan struct{}

	mu     sync.Mutex
	status Status
}

func newKeeper(spec Spec, starter Starter, clk clock.Clock, log io.WriteCloser) *keeper {
	return &keeper{
		spec: spec, starter: starter, clock: clk, log: log,
		stopping: make(chan struct{}),
		done:     make(chan struct{}),
		status:   Status{Name: spec.Name, Program: spec.Argv[0], State: Waiting, Since: clk.Now()},
	}
}

func (k *keeper) snapshot() Status {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.status
}

func (k *keeper) set(state State, pid int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.State, k.status.PID, k.status.Since = state, pid, k.clock.Now()
}

func (k *keeper) noteExit(how string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.status.LastExit = how
	k.status.Restarts++
}

// run starts the process until stop is called. It owns the log, so that the
// last words of a process are written before the file is closed.
func (k *keeper) run() {
	defer close(k.done)
	defer k.log.Close()
	delay := firstDelay
	for {
		if k.awaitNeeds() {
			k.set(Stopped, 0)
			return
		}
		started := k.clock.Now()
		how, stopped := k.once()
		if stopped {
			k.set(Stopped, 0)
			return
		}
		if k.clock.Since(started) >= recoveredAfter {
			delay = firstDelay
		}
		k.noteExit(how)
		k.set(Waiting, 0)
		fmt.Fprintf(k.log, "--- %s ended (%s), started again in %s\n", k.spec.Name, how, delay)
		select {
		case <-k.stopping:
			k.set(Stopped, 0)
			return
		case <-k.clock.After(delay):
		}
		delay = min(delay*2, lastDelay)
	}
}

// awaitNeeds returns when what the process needs is there, or it was stopped.
func (k *keeper) awaitNeeds() (stopped bool) {
	for k.spec.WaitFor != "" && !k.starter.Serves(k.spec.WaitFor) {
		select {
		case <-k.stopping:
			return true
		case <-k.clock.After(needsInterval):
		}
	}
	return false
}

// once runs the process to its end, or until stop is called.
func (k *keeper) once() (how string, stopped bool) {
	h, err := k.starter.Start(k.spec, k.log)
	if err != nil {
		return fmt.Sprintf("not started: %v", err), false
	}
	k.set(Running, h.PID())
	ended := make(chan error, 1)
	go func() { ended <- h.Wait() }()
	select {
	case err := <-ended:
		return describeExit(err), false
	case <-k.stopping:
		k.end(h, ended)
		return "", true
	}
}

// end asks the process to finish and insists after a while.
func (k *keeper) end(h Handle, ended <-chan error) {
	_ = h.Terminate()
	select {
	case <-ended:
		return
	case <-k.clock.After(terminationGrace):
	}
	_ = h.Kill()
	<-ended
}

// stop ends the process and returns when it is gone.
func (k *keeper) stop() {
	close(k.stopping)
	<-k.done
}

// Uptime is how long a process has been in its state.
func (s Status) Uptime(now time.Time) time.Duration { return now.Sub(s.Since).Truncate(time.Second) }
