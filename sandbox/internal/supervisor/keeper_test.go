// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
)

// fakeBox is a box that ends when the test says so.
type fakeBox struct {
	pid   int
	ended chan struct{}
	err   error

	mu        sync.Mutex
	processes map[string]process.Spec
	restarted []string
	killed    bool
}

func (b *fakeBox) PID() int               { return b.pid }
func (b *fakeBox) Ended() <-chan struct{} { return b.ended }
func (b *fakeBox) Err() error             { return b.err }

func (b *fakeBox) Kill() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.killed = true
	close(b.ended)
}

func (b *fakeBox) die(err error) {
	b.err = err
	close(b.ended)
}

func (b *fakeBox) Ensure(spec process.Spec) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.processes[spec.Name] = spec
	return nil
}

func (b *fakeBox) Remove(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.processes, name)
	return nil
}

func (b *fakeBox) Restart(name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.restarted = append(b.restarted, name)
	return nil
}

func (b *fakeBox) Status() ([]process.Status, error) {
	var list []process.Status
	for _, name := range b.names() {
		list = append(list, process.Status{Name: name, State: process.Running})
	}
	return list, nil
}

func (b *fakeBox) names() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	names := make([]string, 0, len(b.processes))
	for n := range b.processes {
		names = append(names, n)
	}
	sort.Strings(names)
	return names
}

// syncBuffer is a log that may be read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *syncBuffer) Close() error { return nil }

type fixture struct {
	*testing.T
	clock *clocktesting.FakeClock
	log   *syncBuffer

	mu     sync.Mutex
	boxes  []*fakeBox
	refuse error
}

func newFixture(t *testing.T) *fixture {
	return &fixture{T: t, clock: clocktesting.NewFakeClock(time.Unix(1000, 0)), log: &syncBuffer{}}
}

func (f *fixture) launch(box.Spec, io.Writer) (runningBox, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	b := &fakeBox{pid: 1 << 30, ended: make(chan struct{}), processes: map[string]process.Spec{}}
	f.boxes = append(f.boxes, b)
	return b, nil
}

func (f *fixture) setRefuse(err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.refuse = err
}

func (f *fixture) keeper() *keeper {
	f.Helper()
	k, err := newKeeper(box.Spec{Name: "node-1"}, f.log, f.clock, f.launch)
	if err != nil {
		f.Fatal(err)
	}
	return k
}

func (f *fixture) box(n int) *fakeBox {
	f.Helper()
	f.eventually("box", func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return len(f.boxes) == n
	})
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.boxes[n-1]
}

func (f *fixture) eventually(what string, check func() bool) {
	f.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			f.Fatalf("%s did not happen", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func spec(name string) process.Spec { return process.Spec{Name: name, Argv: []string{"/bin/" + name}} }

func TestBoxThatEndsIsStartedAgainWithItsProcesses(t *testing.T) {
	f := newFixture(t)
	k := f.keeper()
	for _, name := range []string{"kubelet", "containerd", "gone"} {
		if err := k.ensure(spec(name)); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.remove("gone"); err != nil {
		t.Fatal(err)
	}
	f.box(1).die(errors.New("signal: killed"))
	f.eventually("end", func() bool { return k.status().Restarts == 1 })
	if s := k.status(); s.PID != 0 || s.LastExit != "signal: killed" {
		t.Errorf("status %+v", s)
	}
	// What is asked for in the meantime is part of it.
	if err := k.ensure(spec("kube-proxy")); err != nil {
		t.Fatal(err)
	}
	f.eventually("waiting", f.clock.HasWaiters)
	f.clock.Step(time.Second)
	second := f.box(2)
	f.eventually("processes", func() bool { return len(second.names()) == 3 })
	if got := second.names(); !slices.Equal(got, []string{"containerd", "kube-proxy", "kubelet"}) {
		t.Errorf("processes %v", got)
	}
	f.eventually("running", func() bool { return k.status().PID != 0 })
	k.stop()
	if !second.killed {
		t.Error("box lives on")
	}
}

func TestBoxBackOff(t *testing.T) {
	f := newFixture(t)
	k := f.keeper()
	for i, want := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
		f.box(i + 1).die(nil)
		f.eventually("waiting", f.clock.HasWaiters)
		f.clock.Step(want*time.Second - time.Millisecond)
		if f.mu.Lock(); len(f.boxes) != i+1 {
			t.Errorf("start %d came before %d s", i, want)
		}
		f.mu.Unlock()
		f.clock.Step(time.Millisecond)
	}
	last := f.box(8)
	f.eventually("running", func() bool { return k.current() == last })
	f.clock.Step(time.Minute)
	last.die(nil)
	f.eventually("waiting", f.clock.HasWaiters)
	f.clock.Step(time.Second)
	f.box(9)
	k.stop()
}

func TestBoxThatCannotBeStartedAgainIsTriedOn(t *testing.T) {
	f := newFixture(t)
	k := f.keeper()
	f.setRefuse(errors.New("no space left"))
	f.box(1).die(nil)
	for i := range 3 {
		f.eventually("waiting", f.clock.HasWaiters)
		f.clock.Step(30 * time.Second)
		f.eventually("attempt", func() bool { return k.status().Restarts == i+2 })
	}
	if s := k.status(); s.LastExit != "no space left" {
		t.Errorf("status %+v", s)
	}
	f.setRefuse(nil)
	f.eventually("waiting", f.clock.HasWaiters)
	f.clock.Step(30 * time.Second)
	f.box(2)
	k.stop()
}

func TestBoxThatNeverStartedIsAnError(t *testing.T) {
	f := newFixture(t)
	f.refuse = errors.New("no such directory")
	if _, err := newKeeper(box.Spec{Name: "node-1"}, f.log, f.clock, f.launch); err == nil || err.Error() != "no such directory" {
		t.Errorf("error %v", err)
	}
}

func TestStopDuringBackOff(t *testing.T) {
	f := newFixture(t)
	k := f.keeper()
	f.box(1).die(nil)
	f.eventually("waiting", f.clock.HasWaiters)
	k.stop()
	f.clock.Step(time.Hour)
	if len(f.boxes) != 1 {
		t.Error("stopped box was started again")
	}
}

func TestRestartOfAProcess(t *testing.T) {
	f := newFixture(t)
	k := f.keeper()
	if err := k.restart("kubelet"); err != nil {
		t.Fatal(err)
	}
	if got := f.box(1).restarted; !slices.Equal(got, []string{"kubelet"}) {
		t.Errorf("restarted %v", got)
	}
	f.box(1).die(nil)
	f.eventually("end", func() bool { return k.current() == nil })
	if err := k.restart("kubelet"); err == nil || !strings.Contains(err.Error(), "does not run right now") {
		t.Errorf("error %v", err)
	}
	if err := k.remove("kubelet"); err != nil {
		t.Error(err)
	}
	k.stop()
}

func TestBadProcessIsRefusedAtOnce(t *testing.T) {
	f := newFixture(t)
	k := f.keeper()
	if err := k.ensure(process.Spec{Name: "x"}); err == nil {
		t.Error("no error")
	}
	if got := f.box(1).names(); len(got) != 0 {
		t.Errorf("processes %v", got)
	}
	k.stop()
}
