// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package router

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	clocktesting "k8s.io/utils/clock/testing"
)

var (
	begun  = Move{Guest: "1", Machine: "team/web", Address: addr("10.66.10.5"), UnderWay: true, Here: true}
	left   = Move{Guest: "1", Machine: "team/web", Address: addr("10.66.10.5"), UnderWay: true}
	stayed = Move{Guest: "1", Machine: "team/web", Address: addr("10.66.10.5"), Here: true}
)

// TestMeasure plays a migration at one echo a letter: "." is answered, "x" is not,
// "m" is the moment when the guest has moved, "f" when the migration failed, "b" when
// another begins.
func TestMeasure(t *testing.T) {
	minute := ""
	for range 601 {
		minute += "x"
	}
	for _, tc := range []struct {
		title, play string
		result      MoveResult
		lost        time.Duration
	}{
		{"it has only begun", "...", "", 0},
		{"nothing was lost", "...m.", MoveMoved, 0},
		{"three echoes were lost", "...xxxm.", MoveMoved, 300 * time.Millisecond},
		{"and some more until the routes had changed", "...xxxmxx.", MoveMoved, 500 * time.Millisecond},
		{"the longest row counts", "..xx..xxxx..m.", MoveMoved, 400 * time.Millisecond},
		{"it has not answered again yet", "..xxmxxxx", "", 0},
		{"it failed", "..xx.f.", MoveStayed, 200 * time.Millisecond},
		{"it failed and the next one went well", "..xfxb.xxm.", MoveMoved, 200 * time.Millisecond},
		{"it never answers", "xxxxm", moveSilent, 0},
		{"it does not come back", "..m" + minute, MoveLost, 60100 * time.Millisecond},
		{"it was away before and does not come back", "..xxxm" + minute, MoveLost, 60400 * time.Millisecond},
	} {
		var m measure
		var result MoveResult
		for _, letter := range tc.play {
			switch letter {
			case '.':
				m.answered(m.next())
			case 'x':
				m.next()
			case 'm':
				m.told(left)
				m.told(left) // the same news may come again
			case 'f':
				m.told(stayed)
			case 'b':
				m.told(begun)
			}
			if result = m.result(); result != "" {
				break
			}
		}
		if result != tc.result || (result != "" && m.lost() != tc.lost) {
			t.Errorf("%s: %q after %s, want %q after %s", tc.title, result, m.lost(), tc.result, tc.lost)
		}
	}
}

// Echoes may overtake each other, come twice, or come from who knows where.
func TestMeasureTakesNoNonsense(t *testing.T) {
	var m measure
	for range 5 {
		m.next()
	}
	for _, n := range []int{1, 4, 2, 4, 4000, 0, -3, 5} {
		m.answered(n)
	}
	if m.worst != 2 || m.last != 5 {
		t.Errorf("worst %d, last %d", m.worst, m.last)
	}
	// One that was asked for before the move is no sign that the guest is back.
	m.next()
	m.told(left)
	m.answered(6)
	if got := m.result(); got != "" {
		t.Errorf("an old echo ended it: %s", got)
	}
	m.answered(m.next())
	if got := m.result(); got != MoveMoved {
		t.Errorf("a new one did not: %q", got)
	}
}

// fakeEcho answers while the guest is reachable.
type fakeEcho struct {
	mu        sync.Mutex
	reachable bool
	answers   chan int
	sent      chan int
	closed    chan struct{}
}

func newFakeEcho() *fakeEcho {
	return &fakeEcho{reachable: true, answers: make(chan int, 10000), sent: make(chan int, 10000), closed: make(chan struct{})}
}

func (e *fakeEcho) Send(n int) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.sent <- n
	if !e.reachable {
		return errors.New("network is unreachable")
	}
	e.answers <- n
	return nil
}

func (e *fakeEcho) Receive() (int, error) {
	select {
	case n := <-e.answers:
		return n, nil
	case <-e.closed:
		return 0, errors.New("closed")
	}
}

func (e *fakeEcho) Close() error { close(e.closed); return nil }

func (e *fakeEcho) set(reachable bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.reachable = reachable
}

// measuring is a Moves that is started, with a guest behind fakeEcho.
type measuring struct {
	*Moves
	clock  *clocktesting.FakeClock
	echo   *fakeEcho
	opened int
}

func newMeasuring(t *testing.T) *measuring {
	t.Helper()
	now := clocktesting.NewFakeClock(time.Unix(0, 0))
	m := &measuring{clock: now, echo: newFakeEcho()}
	m.Moves = &Moves{Log: slog.New(slog.DiscardHandler), Clock: now, Metrics: NewMetrics(now), Open: func(netip.Addr) (Echoer, error) {
		m.opened++
		return m.echo, nil
	}}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); _ = m.Start(ctx) }()
	t.Cleanup(func() { cancel(); <-ended })
	eventually(t, "it never started", func() bool { m.mu.Lock(); defer m.mu.Unlock(); return m.stop != nil })
	return m
}

func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for range 2000 {
		if done() {
			return
		}
		time.Sleep(5 * time.Millisecond)
	}
	t.Fatal(what)
}

// asks lets time pass until some more echoes were asked for.
func (m *measuring) asks(t *testing.T, echoes int) {
	t.Helper()
	for range echoes {
		eventually(t, "nobody waits for the time", m.clock.HasWaiters)
		m.clock.Step(echoInterval)
		select {
		case <-m.echo.sent:
		case <-time.After(10 * time.Second):
			t.Fatal("no echo was asked for")
		}
	}
}

func (m *measuring) running() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.sessions)
}

func TestMovesMeasuresAMigration(t *testing.T) {
	m := newMeasuring(t)
	m.Follow([]Move{stayed})
	if m.opened != 0 {
		t.Error("a guest that does not move is asked")
	}
	m.Follow([]Move{begun})
	m.Follow([]Move{begun})
	m.asks(t, 3)
	eventually(t, "the answers were not taken", func() bool { return len(m.echo.answers) == 0 })
	m.echo.set(false)
	m.asks(t, 4)
	m.Follow([]Move{left})
	m.asks(t, 2)
	m.echo.set(true)
	m.asks(t, 1)
	eventually(t, "it goes on", func() bool { return m.running() == 0 })
	eventually(t, "nothing was counted", func() bool {
		return testutil.ToFloat64(only(t, m.Metrics, "d8_virtualization_router_migration_unreachable_seconds", "Moved")) > 0
	})
	if got := testutil.ToFloat64(only(t, m.Metrics, "d8_virtualization_router_migration_unreachable_seconds", "Moved")); got < 0.59 || got > 0.71 {
		t.Errorf("%v seconds, want 0.6", got)
	}
	if m.opened != 1 {
		t.Errorf("%d sockets", m.opened)
	}
	select {
	case <-m.echo.closed:
	default:
		t.Error("the socket is still open")
	}
}

// A guest that ends while it moves ends its measurement too.
func TestMovesForgetsGuestsThatAreGone(t *testing.T) {
	m := newMeasuring(t)
	m.Follow([]Move{begun})
	m.asks(t, 1)
	m.Follow(nil)
	eventually(t, "it goes on", func() bool { return m.running() == 0 })
	if got := testutil.ToFloat64(only(t, m.Metrics, "d8_virtualization_router_unreachable_seconds_total", "Migration")); got != 0 {
		t.Errorf("%v seconds", got)
	}
}

func TestMovesWithoutSocket(t *testing.T) {
	m := newMeasuring(t)
	m.Open = func(netip.Addr) (Echoer, error) { return nil, errors.New("operation not permitted") }
	m.Follow([]Move{begun})
	if m.running() != 0 {
		t.Error("it measures without a socket")
	}
	m.finish(begun, moveSilent, 0)
	if got := testutil.CollectAndCount(m.Metrics, "d8_virtualization_router_migration_unreachable_seconds"); got != 3 {
		t.Errorf("%d results", got)
	}
}

// Before it is started and after it has ended, nothing is measured.
func TestMovesOnlyWhileStarted(t *testing.T) {
	m := &Moves{Open: func(netip.Addr) (Echoer, error) { t.Error("opened"); return nil, nil }}
	m.Follow([]Move{begun})
}
