// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"encoding/json"
	"sync"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// Status is what an import is doing, for whoever wants to tell it. The zero
// value is ready, and nil takes everything and tells nothing.
type Status struct {
	mu       sync.Mutex
	progress report.Progress
	// transferred is asked for the bytes done, of which base were done before.
	transferred func() int64
	base        int64
	// moved are the bytes of earlier phases.
	moved int64
	// news is for whoever waits for checkpoints; nil until somebody does.
	news chan struct{}
}

// Begin starts to count: transferred, which is at base now, goes up to total.
func (s *Status) Begin(phase string, transferred func() int64, base, total int64) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	s.transferred, s.base = transferred, base
	s.progress.TransferredBytes, s.progress.TotalBytes = base, max(total, 0)
	s.progress.Phase, s.progress.RetryAt = phase, nil
}

// settle keeps what was moved and lets go of the counter, whose owner may end.
func (s *Status) settle() {
	if s.transferred == nil {
		return
	}
	s.progress.TransferredBytes = s.transferred()
	s.moved += max(s.progress.TransferredBytes-s.base, 0)
	s.transferred = nil
}

// Phase says what is being done now.
func (s *Status) Phase(phase string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Phase, s.progress.RetryAt = phase, nil
}

// Waiting says that something failed and when it is tried again.
func (s *Status) Waiting(until time.Time) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	until = until.UTC()
	s.progress.Phase, s.progress.RetryAt = report.PhaseWaiting, &until
}

// Failed says what an attempt ended with although the import goes on. Whoever reports
// it takes it back when bytes move again.
func (s *Status) Failed(failure *report.Failure) {
	if s == nil || failure == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Failure = failure.Short()
}

// Recovered takes back what Failed said, where no bytes would show it.
func (s *Status) Recovered() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Failure = nil
}

// Attempt says how often the import was begun or continued so far.
func (s *Status) Attempt(n int) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Attempts = n
}

// Checkpointed says what a new importer could go on from.
func (s *Status) Checkpointed(encoded json.RawMessage) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.progress.Checkpoint = encoded
	select {
	case s.news <- struct{}{}:
	default: // Nobody waits, or has been told and has not looked yet.
	}
}

// News gets something after each checkpoint that is new since it was called first.
// There is one channel, so it is for one reader.
func (s *Status) News() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.news == nil {
		s.news = make(chan struct{}, 1)
	}
	return s.news
}

// Sample returns the progress without speeds, and how many bytes were moved.
func (s *Status) Sample() (progress report.Progress, moved int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	progress, moved = s.progress, s.moved
	if s.transferred != nil {
		progress.TransferredBytes = s.transferred()
		moved += max(progress.TransferredBytes-s.base, 0)
	}
	return progress, moved
}
