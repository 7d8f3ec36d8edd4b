// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package report tells people how far a long command is. There is a line at
// least every so often: silence looks like a hang.
package report

import (
	"fmt"
	"io"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// Silence is how long nothing may be printed while something goes on.
const Silence = 20 * time.Second

// Reporter prints lines with the time since it was made.
type Reporter struct {
	out   io.Writer
	clock clock.WithTicker
	start time.Time

	mu      sync.Mutex
	phase   string
	last    string
	printed time.Time
}

// New returns a reporter that prints to out.
func New(out io.Writer, clk clock.WithTicker) *Reporter {
	return &Reporter{out: out, clock: clk, start: clk.Now(), printed: clk.Now()}
}

// Say prints a line.
func (r *Reporter) Say(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = fmt.Sprintf(format, args...)
	r.print(r.last)
}

// Note remembers how far things are, for the next line that is due.
func (r *Reporter) Note(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = fmt.Sprintf(format, args...)
}

// Phase runs a piece of work with a name, and reports its end and its time.
func (r *Reporter) Phase(name string, work func() error) error {
	started := r.clock.Now()
	r.mu.Lock()
	r.phase, r.last = name, "started"
	r.mu.Unlock()
	stop := r.keepTalking()
	err := work()
	stop()
	took := r.clock.Since(started).Round(100 * time.Millisecond)
	if err != nil {
		r.Say("failed after %s", took)
		return fmt.Errorf("%s: %w", name, err)
	}
	r.Say("done in %s", took)
	return nil
}

// keepTalking repeats the last line when there was none for a while.
func (r *Reporter) keepTalking() (stop func()) {
	done := make(chan struct{})
	finished := make(chan struct{})
	ticker := r.clock.NewTicker(Silence / 4)
	go func() {
		defer close(finished)
		defer ticker.Stop()
		for {
			select {
			case <-done:
				return
			case <-ticker.C():
				r.repeat()
			}
		}
	}()
	return func() {
		close(done)
		<-finished
	}
}

func (r *Reporter) repeat() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.clock.Since(r.printed) >= Silence {
		r.print("still: " + r.last)
	}
}

// print writes a line; the lock is held.
func (r *Reporter) print(line string) {
	r.printed = r.clock.Now()
	elapsed := r.clock.Since(r.start).Round(time.Second)
	fmt.Fprintf(r.out, "%6s  %-9s %s\n", elapsed, r.phase, line)
}
