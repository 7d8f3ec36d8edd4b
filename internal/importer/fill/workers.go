// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"sync"
)

// workers run jobs beside a consumer, a bounded number at once.
type workers struct {
	slots chan struct{}
	jobs  sync.WaitGroup

	mu  sync.Mutex
	err error
}

func newWorkers(count int) *workers { return &workers{slots: make(chan struct{}, count)} }

// do starts a job as soon as there is a slot. It returns the error of an earlier
// job; then, and when ctx ends, the job is not run.
func (w *workers) do(ctx context.Context, job func() error) error {
	select {
	case w.slots <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := w.failure(); err != nil {
		<-w.slots
		return err
	}
	w.jobs.Go(func() {
		defer func() { <-w.slots }()
		if err := job(); err != nil {
			w.fail(err)
		}
	})
	return nil
}

// wait returns when no job is left.
func (w *workers) wait() error {
	w.jobs.Wait()
	return w.failure()
}

func (w *workers) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *workers) failure() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}
