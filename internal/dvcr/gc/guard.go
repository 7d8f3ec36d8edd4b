// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"sync"
	"time"

	"k8s.io/utils/clock"
)

// DefaultGrace is how long a blob stays for a push that has uploaded it, or was
// told that it is there, and has not published an image with it. The importer
// needs seconds; an hour outlasts every outage that it waits for.
const DefaultGrace = time.Hour

// Guard knows what pushes rely on.
type Guard struct {
	clock clock.PassiveClock
	grace time.Duration
	// settled is when leases of an earlier process have ended for certain.
	settled time.Time

	mu sync.Mutex
	// idle tells those who wait for a removal to end.
	idle sync.Cond
	// count grows whenever something is noted.
	count uint64
	// entries are by key: a digest, an upload or a repository.
	entries map[string]*entry
}

// entry is what the Guard knows of one key.
type entry struct {
	// noted is the Guard's count when the key was last noted.
	noted uint64
	// pins are the requests under way that rely on the key.
	pins int
	// leases end at the given time, by holder.
	leases map[string]time.Time
	// removing is true while the Collector removes it.
	removing bool
}

// NewGuard makes the guard of a process that starts now.
func NewGuard(clock clock.PassiveClock, grace time.Duration) *Guard {
	guard := &Guard{
		clock:   clock,
		grace:   grace,
		settled: clock.Now().Add(grace),
		entries: map[string]*entry{},
	}
	guard.idle.L = &guard.mu
	return guard
}

// entry must be called with the lock held.
func (g *Guard) entry(key string) *entry {
	found := g.entries[key]
	if found == nil {
		found = &entry{leases: map[string]time.Time{}}
		g.entries[key] = found
	}
	return found
}

// acquire waits until the key is not being removed, notes it and returns it with
// the lock held.
func (g *Guard) acquire(key string) *entry {
	g.mu.Lock()
	for g.entry(key).removing {
		g.idle.Wait()
	}
	found := g.entry(key)
	g.count++
	found.noted = g.count
	return found
}

// now is the count that the marking starts with.
func (g *Guard) now() uint64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}

// leased tells until when the key is protected whatever the marking found, and
// false if it is not.
func (g *Guard) leased(key string) (time.Time, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.leasedLocked(key)
}

func (g *Guard) leasedLocked(key string) (time.Time, bool) {
	now := g.clock.Now()
	var until time.Time
	if now.Before(g.settled) {
		until = g.settled
	}
	found := g.entries[key]
	if found == nil {
		return until, !until.IsZero()
	}
	if found.pins > 0 {
		// The request's end starts the grace period.
		until = now.Add(g.grace)
	}
	for _, end := range found.leases {
		if end.After(now) && end.After(until) {
			until = end
		}
	}
	return until, !until.IsZero()
}

// remove calls the function unless a push relies on the key, or has noted it
// after the count. While it runs whoever wants to rely on the key waits. It
// returns whether the function was called, and if it was not until when a lease
// protects the key.
func (g *Guard) remove(key string, since uint64, remove func() error) (removed bool, until time.Time, err error) {
	g.mu.Lock()
	if until, leased := g.leasedLocked(key); leased {
		g.mu.Unlock()
		return false, until, nil
	}
	if found := g.entries[key]; found != nil && found.noted > since {
		g.mu.Unlock()
		return false, time.Time{}, nil
	}
	return true, time.Time{}, g.removeLocked(key, remove)
}

// removeIdle calls the function unless a request under way uses the key.
func (g *Guard) removeIdle(key string, remove func() error) (removed bool, err error) {
	g.mu.Lock()
	if found := g.entries[key]; found != nil && found.pins > 0 {
		g.mu.Unlock()
		return false, nil
	}
	return true, g.removeLocked(key, remove)
}

// removeLocked gives the lock away: removing a large file takes its time.
func (g *Guard) removeLocked(key string, remove func() error) error {
	g.entry(key).removing = true
	g.mu.Unlock()
	defer func() {
		g.mu.Lock()
		defer g.mu.Unlock()
		g.entry(key).removing = false
		g.idle.Broadcast()
	}()
	return remove()
}

// forget drops what no longer protects anything. The marking that began with the
// count must be over.
func (g *Guard) forget(since uint64) {
	g.mu.Lock()
	defer g.mu.Unlock()
	now := g.clock.Now()
	for key, found := range g.entries {
		for holder, end := range found.leases {
			if !end.After(now) {
				delete(found.leases, holder)
			}
		}
		if found.pins == 0 && len(found.leases) == 0 && !found.removing && found.noted <= since {
			delete(g.entries, key)
		}
	}
}

// Session is one request of a client.
type Session struct {
	guard *Guard

	mu sync.Mutex
	// reads is true for requests after which nothing relies on what they saw.
	reads  bool
	holder string
	keys   map[string]struct{}
	ended  bool
}

// Begin starts a session. One that only reads protects nothing: whoever reads an
// image that is being deleted gets an error sooner or later in any case.
func (g *Guard) Begin(reads bool) *Session {
	return &Session{guard: g, reads: reads, keys: map[string]struct{}{}}
}

type sessionKey struct{}

// WithSession returns a context whose storage operations belong to the session.
func WithSession(ctx context.Context, session *Session) context.Context {
	return context.WithValue(ctx, sessionKey{}, session)
}

// Identify tells the session of the context whose request it is, which is who
// publishes the image in the end, and which repositories it uses.
func Identify(ctx context.Context, holder string, repositories ...string) {
	session, ok := ctx.Value(sessionKey{}).(*Session)
	if !ok {
		return
	}
	session.mu.Lock()
	session.holder = holder
	session.mu.Unlock()
	for _, name := range repositories {
		session.note(repositoryKey(name))
	}
}

// OnlyReads tells the session of the context that its client cannot push, so
// that it does not rely on what it finds.
func OnlyReads(ctx context.Context) {
	if session, ok := ctx.Value(sessionKey{}).(*Session); ok {
		session.mu.Lock()
		defer session.mu.Unlock()
		session.reads = true
	}
}

// note protects the key until the session ends, and then for the grace period.
func (s *Session) note(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.reads:
		return
	case s.ended:
		// Distribution finishes some things behind its answer.
		s.guard.lease(key, s.holder)
		return
	}
	found := s.guard.acquire(key)
	defer s.guard.mu.Unlock()
	if _, pinned := s.keys[key]; !pinned {
		s.keys[key] = struct{}{}
		found.pins++
	}
}

// lease protects the key for the grace period.
func (g *Guard) lease(key, holder string) {
	found := g.acquire(key)
	defer g.mu.Unlock()
	found.leases[holder] = g.clock.Now().Add(g.grace)
}

// End ends the session. When it has published an image, its manifest refers to
// all the session has looked at, and the holder's leases on that are over: an
// image that is deleted a moment later must free its space at once.
func (s *Session) End(published bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ended = true
	g := s.guard
	g.mu.Lock()
	defer g.mu.Unlock()
	until := g.clock.Now().Add(g.grace)
	for key := range s.keys {
		found := g.entry(key)
		// A marking under way may have been too early to see the manifest.
		g.count++
		found.noted = g.count
		found.pins--
		if published {
			delete(found.leases, s.holder)
		} else {
			found.leases[s.holder] = until
		}
	}
}

// note protects the key for whoever the context belongs to. Without a session
// nobody knows what it is needed for, so it is protected, too.
func (g *Guard) note(ctx context.Context, key string) {
	if session, ok := ctx.Value(sessionKey{}).(*Session); ok {
		session.note(key)
		return
	}
	g.lease(key, "")
}
