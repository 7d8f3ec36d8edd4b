// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package build

import (
	"fmt"
	"sync"
	"time"
)

// progressInterval is how often a step that takes long says that it still runs.
const progressInterval = 15 * time.Second

// step reports one piece of work: at once when it starts, then from time to time
// how far it is, and how long it took.
type step struct {
	what     string
	report   func(string)
	interval time.Duration
	started  time.Time

	mu    sync.Mutex
	state string

	stop    chan struct{}
	stopped sync.WaitGroup
}

func (b *Builder) step(what string) *step {
	b.progress("building " + what)
	s := b.quietStep(what)
	s.note("starting")
	return s
}

// quietStep reports nothing unless there is something to note, or the work takes
// long: most runs find nothing to do.
func (b *Builder) quietStep(what string) *step {
	s := &step{what: what, report: b.progress, interval: b.interval, started: time.Now(), stop: make(chan struct{})}
	s.stopped.Go(s.tick)
	return s
}

// note says how far the work is; it is shown with the next report.
func (s *step) note(state string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.state = state
}

func (s *step) tick() {
	ticker := time.NewTicker(s.interval)
	defer ticker.Stop()
	for {
		select {
		case <-s.stop:
			return
		case <-ticker.C:
			s.mu.Lock()
			state := s.state
			s.mu.Unlock()
			if state == "" {
				state = "looking for what has changed"
			}
			s.report(fmt.Sprintf("building %s: %s (%s)", s.what, state, s.elapsed()))
		}
	}
}

// end stops the reports; a step that failed is told of by its error.
func (s *step) end(err error) {
	close(s.stop)
	s.stopped.Wait()
	if err != nil || s.state == "" {
		return
	}
	s.report(fmt.Sprintf("built %s in %s", s.what, s.elapsed()))
}

func (s *step) elapsed() time.Duration { return time.Since(s.started).Round(time.Second) }
