// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
)

const (
	// echoInterval is how often a guest that moves is asked for an echo, and so how
	// exactly the time is measured during which it did not answer.
	echoInterval = 100 * time.Millisecond
	// echoPatience is how long a guest that has moved may take to answer again.
	echoPatience = time.Minute
)

// Move is what one look says about a guest that may be moving.
type Move struct {
	Guest   types.UID
	Machine string
	Address netip.Addr
	// UnderWay says that a live migration has begun and has not ended.
	UnderWay bool
	// Here says that the guest runs on this node.
	Here bool
}

// MoveResult is how a measured migration ended.
type MoveResult string

const (
	// MoveMoved means that the guest answers from the other node.
	MoveMoved MoveResult = "Moved"
	// MoveStayed means that the migration failed and the guest answers from this node.
	MoveStayed MoveResult = "Stayed"
	// MoveLost means that the guest answered before, and for a minute not since.
	MoveLost MoveResult = "Lost"
	// moveSilent means that the guest never answered: many let no echo requests in.
	moveSilent MoveResult = "Silent"
)

// Echoer asks one address for echoes.
type Echoer interface {
	// Send asks for the echo number n.
	Send(n int) error
	// Receive waits for an echo; it fails when it is closed.
	Receive() (n int, err error)
	Close() error
}

// Moves measures from the source's node how long a guest that moves does not answer.
// That is the sum of everything: that it stood still, that its routes led to the old
// node, and that the network had to learn.
type Moves struct {
	Log     *slog.Logger
	Clock   clock.WithTicker
	Metrics *Metrics
	// Open makes an Echoer.
	Open func(netip.Addr) (Echoer, error)

	mu       sync.Mutex
	stop     context.Context
	sessions map[types.UID]*session
}

// Start lets measurements run until the context ends.
func (m *Moves) Start(ctx context.Context) error {
	m.mu.Lock()
	m.stop = ctx
	m.mu.Unlock()
	<-ctx.Done()
	return nil
}

// Follow begins and ends measurements as the guests' state says. Those of guests
// that are gone end without a result.
func (m *Moves) Follow(moves []Move) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.stop == nil {
		return
	}
	seen := make(map[types.UID]bool, len(m.sessions))
	for _, move := range moves {
		running := m.sessions[move.Guest]
		switch {
		case running != nil:
			seen[move.Guest] = true
			running.tell(move)
		case move.UnderWay && move.Here:
			seen[move.Guest] = true
			m.begin(move)
		}
	}
	for guest, running := range m.sessions {
		if !seen[guest] {
			running.cancel()
		}
	}
}

func (m *Moves) begin(move Move) {
	echoes, err := m.Open(move.Address)
	if err != nil {
		m.Log.Error("measuring a migration", "machine", move.Machine, "error", err)
		return
	}
	if m.sessions == nil {
		m.sessions = map[types.UID]*session{}
	}
	ctx, cancel := context.WithCancel(m.stop)
	started := &session{cancel: cancel, told: make(chan Move, 1), clock: m.Clock, echoes: echoes}
	m.sessions[move.Guest] = started
	go func() {
		defer cancel()
		result, lost := started.run(ctx)
		m.mu.Lock()
		delete(m.sessions, move.Guest)
		m.mu.Unlock()
		m.finish(move, result, lost)
	}()
}

func (m *Moves) finish(move Move, result MoveResult, lost time.Duration) {
	switch result {
	case "":
		return
	case moveSilent:
		m.Log.Info("a migrating machine does not answer echo requests, so that its time without a network is not known", "machine", move.Machine)
		return
	}
	m.Metrics.Moved(result, lost)
	m.Log.Info("measured a migration", "machine", move.Machine, "result", string(result), "unreachableSeconds", lost.Seconds())
}

// session measures one migration.
type session struct {
	cancel context.CancelFunc
	told   chan Move
	clock  clock.WithTicker
	echoes Echoer
}

// tell passes the newest state on; an older one that was not read yet is dropped.
func (s *session) tell(move Move) {
	for {
		select {
		case s.told <- move:
			return
		default:
		}
		select {
		case <-s.told:
		default:
		}
	}
}

// run asks until the guest has answered after the end of its migration.
func (s *session) run(ctx context.Context) (MoveResult, time.Duration) {
	answers := make(chan int)
	done := make(chan struct{})
	defer close(done)
	defer func() { _ = s.echoes.Close() }()
	go s.receive(answers, done)
	ticker := s.clock.NewTicker(echoInterval)
	defer ticker.Stop()
	var state measure
	for {
		select {
		case <-ctx.Done():
			return "", 0
		case move := <-s.told:
			state.told(move)
		case n := <-answers:
			state.answered(n)
		case <-ticker.C():
			// What cannot be sent counts like what is not answered.
			_ = s.echoes.Send(state.next())
		}
		if result := state.result(); result != "" {
			return result, state.lost()
		}
	}
}

func (s *session) receive(answers chan<- int, done <-chan struct{}) {
	for {
		n, err := s.echoes.Receive()
		if err != nil {
			return
		}
		select {
		case answers <- n:
		case <-done:
			return
		}
	}
}

// measure is the arithmetic of a session; echoes are numbered from 1.
type measure struct {
	sent, last, worst int
	// ended is the last echo that was asked for before the end was known, plus 1.
	ended int
	stays bool
	// silent says that nothing had come when the end was known.
	silent bool
	back   bool
}

func (m *measure) next() int {
	m.sent++
	return m.sent
}

func (m *measure) told(move Move) {
	if move.UnderWay && move.Here {
		// A failed migration may be followed by the next.
		m.ended, m.back, m.silent = 0, false, false
		return
	}
	if m.ended == 0 {
		m.ended, m.stays, m.silent = m.sent+1, move.Here, m.last == 0
	}
}

// answered keeps the longest row of echoes that did not come between two that did.
func (m *measure) answered(n int) {
	if n > m.sent || n <= m.last {
		return
	}
	if m.last > 0 {
		m.worst = max(m.worst, n-m.last-1)
	}
	m.last = n
	m.back = m.ended > 0 && n >= m.ended
}

func (m *measure) result() MoveResult {
	waited := time.Duration(m.sent-m.ended) * echoInterval
	switch {
	case m.ended == 0:
		return ""
	case m.silent:
		return moveSilent
	case m.back && m.stays:
		return MoveStayed
	case m.back:
		return MoveMoved
	case waited < echoPatience:
		return ""
	}
	m.worst = max(m.worst, m.sent-m.last)
	return MoveLost
}

func (m *measure) lost() time.Duration { return time.Duration(m.worst) * echoInterval }
