// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package controllertest

import (
	"context"
	"slices"
	"sync"

	"github.com/deckhouse/virtualization/internal/dvcr"
)

// Registry stands in for DVCR where only deletions and losses matter.
type Registry struct {
	mu       sync.Mutex
	lost     bool
	deleted  []string
	attempts int
	failures int
	err      error
}

// Head finds every image until the registry has lost them.
func (r *Registry) Head(_ context.Context, _ string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.lost {
		return "", dvcr.ErrNotFound
	}
	return "sha256:00", nil
}

// Lose empties the registry behind everybody's back, or brings all back.
func (r *Registry) Lose(lost bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lost = lost
}

// Delete notes the reference, or fails as Fail has ordered.
func (r *Registry) Delete(_ context.Context, reference string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.attempts++
	if r.failures > 0 {
		r.failures--
		return r.err
	}
	r.deleted = append(r.deleted, reference)
	return nil
}

// Fail makes the next deletions fail.
func (r *Registry) Fail(err error, times int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err, r.failures = err, times
}

// Deleted returns the references that were deleted.
func (r *Registry) Deleted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.deleted)
}

// Attempts returns how often a deletion was tried.
func (r *Registry) Attempts() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.attempts
}
