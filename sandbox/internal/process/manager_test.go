// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

// fakeStarter starts processes that end when the test says so.
type fakeStarter struct {
	mu      sync.Mutex
	started []*fakeHandle
	refuse  error
	serving bool
}

type fakeHandle struct {
	spec       Spec
	pid        int
	ended      chan error
	stubborn   bool
	terminated bool
	killed     bool
	mu         sync.Mutex
}

func (f *fakeStarter) Start(spec Spec, _ io.Writer) (Handle, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return nil, f.refuse
	}
	h := &fakeHandle{spec: spec, pid: 100 + len(f.started), ended: make(chan error, 2)}
	h.stubborn = strings.HasPrefix(spec.Name, "stubborn")
	f.started = append(f.started, h)
	return h, nil
}

func (f *fakeStarter) Serves(string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.serving
}

func (f *fakeStarter) setServing() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.serving = true
}

func (f *fakeStarter) all() []*fakeHandle {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]*fakeHandle(nil), f.started...)
}

func (h *fakeHandle) PID() int    { return h.pid }
func (h *fakeHandle) Wait() error { return <-h.ended }

func (h *fakeHandle) Terminate() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.terminated = true
	if !h.stubborn {
		h.ended <- nil
	}
	return nil
}

func (h *fakeHandle) Kill() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.killed = true
	h.ended <- errors.New("signal: killed")
	return nil
}

// buffer is a log that may be read while it is written.
type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) Close() error { return nil }

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

type fixture struct {
	*testing.T
	starter *fakeStarter
	clock   *clocktesting.FakeClock
	log     *buffer
	manager *Manager
}

func newFixture(t *testing.T) *fixture {
	f := &fixture{T: t, starter: &fakeStarter{}, clock: clocktesting.NewFakeClock(time.Unix(1000, 0)), log: &buffer{}}
	f.manager = NewManager(f.starter, f.clock, func(string) io.WriteCloser { return f.log })
	return f
}

// eventually waits for what other goroutines are about to do.
func (f *fixture) eventually(what string, check func() bool) {
	f.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for !check() {
		if time.Now().After(deadline) {
			f.Fatalf("%s did not happen; status %+v", what, f.manager.Status())
		}
		time.Sleep(time.Millisecond)
	}
}

func (f *fixture) ensure(spec Spec) {
	f.Helper()
	if err := f.manager.Ensure(spec); err != nil {
		f.Fatal(err)
	}
}

func (f *fixture) status(name string) Status {
	for _, s := range f.manager.Status() {
		if s.Name == name {
			return s
		}
	}
	return Status{}
}

// waitStarted waits until so many processes were started in all.
func (f *fixture) waitStarted(n int) *fakeHandle {
	f.Helper()
	f.eventually("start", func() bool { return len(f.starter.all()) == n })
	h := f.starter.all()[n-1]
	f.eventually("running", func() bool { return f.status(h.spec.Name).PID == h.pid })
	return h
}

func spec(name string) Spec { return Spec{Name: name, Argv: []string{"/bin/" + name}} }

func TestProcessIsStartedAgainLaterEachTime(t *testing.T) {
	f := newFixture(t)
	f.ensure(spec("kubelet"))
	wants := []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 30 * time.Second, 30 * time.Second}
	for i, want := range wants {
		f.waitStarted(i + 1).ended <- errors.New("exit status 1")
		f.eventually("waiting", func() bool { return f.clock.HasWaiters() })
		s := f.status("kubelet")
		if s.State != Waiting || s.Restarts != i+1 || s.LastExit != "exit status 1" {
			t.Fatalf("after end %d: %+v", i+1, s)
		}
		f.clock.Step(want - time.Millisecond)
		if n := len(f.starter.all()); n != i+1 {
			t.Fatalf("start %d came before %s", n, want)
		}
		f.clock.Step(time.Millisecond)
	}
	f.waitStarted(len(wants) + 1)
}

func TestBackOffStartsOverAfterALongRun(t *testing.T) {
	f := newFixture(t)
	f.ensure(spec("kubelet"))
	f.waitStarted(1).ended <- errors.New("exit status 1")
	f.eventually("waiting", f.clock.HasWaiters)
	f.clock.Step(500 * time.Millisecond)
	h := f.waitStarted(2)
	f.clock.Step(time.Minute)
	h.ended <- errors.New("exit status 1")
	f.eventually("waiting", f.clock.HasWaiters)
	f.clock.Step(500 * time.Millisecond)
	f.waitStarted(3)
}

func TestLogTellsOfTheEnd(t *testing.T) {
	f := newFixture(t)
	f.ensure(spec("etcd"))
	f.waitStarted(1).ended <- errors.New("signal: killed")
	const want = "--- etcd ended (signal: killed), started again in 500ms\n"
	f.eventually("log line", func() bool { return f.log.String() == want })
}

func TestProgramThatCannotBeStartedIsTriedAgain(t *testing.T) {
	f := newFixture(t)
	f.starter.refuse = errors.New("no such file or directory")
	f.ensure(spec("etcd"))
	f.eventually("noted", func() bool {
		s := f.status("etcd")
		return s.State == Waiting && s.LastExit == "not started: no such file or directory" && s.Restarts == 1
	})
}

func TestEnsure(t *testing.T) {
	base := Spec{Name: "etcd", Argv: []string{"/bin/etcd"}, Env: []string{"A=1"}, Revision: "1"}
	tests := []struct {
		name    string
		change  func(*Spec)
		restart bool
	}{
		{name: "same", change: func(*Spec) {}},
		{name: "other argument", change: func(s *Spec) { s.Argv = append(s.Argv, "--x") }, restart: true},
		{name: "other environment", change: func(s *Spec) { s.Env = []string{"A=2"} }, restart: true},
		{name: "other configuration", change: func(s *Spec) { s.Revision = "2" }, restart: true},
		{name: "other directory", change: func(s *Spec) { s.Dir = "/tmp" }, restart: true},
		{name: "other need", change: func(s *Spec) { s.WaitFor = "/run/x.sock" }, restart: true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := newFixture(t)
			f.starter.setServing()
			f.ensure(base)
			first := f.waitStarted(1)
			changed := base
			changed.Argv = append([]string(nil), base.Argv...)
			tt.change(&changed)
			f.ensure(changed)
			if !tt.restart {
				if first.terminated || len(f.starter.all()) != 1 {
					t.Error("process was restarted for nothing")
				}
				return
			}
			if second := f.waitStarted(2); !first.terminated || !second.spec.Equal(changed) {
				t.Errorf("old one terminated: %t, new one %+v", first.terminated, second.spec)
			}
		})
	}
}

func TestEnsureRefusesBadSpecifications(t *testing.T) {
	f := newFixture(t)
	for want, s := range map[string]Spec{
		"process has no name":              {Argv: []string{"/bin/x"}},
		"process x has no program in argv": {Name: "x"},
		"process y has no program in argv": {Name: "y", Argv: []string{""}},
	} {
		if err := f.manager.Ensure(s); err == nil || err.Error() != want {
			t.Errorf("error %v, want %q", err, want)
		}
	}
	if got := f.manager.Status(); len(got) != 0 {
		t.Errorf("status %+v", got)
	}
}

func TestRemove(t *testing.T) {
	f := newFixture(t)
	f.ensure(spec("etcd"))
	h := f.waitStarted(1)
	f.manager.Remove("etcd")
	f.manager.Remove("never-there")
	if !h.terminated || h.killed {
		t.Errorf("terminated %t, killed %t", h.terminated, h.killed)
	}
	if got := f.manager.Status(); len(got) != 0 {
		t.Errorf("status %+v", got)
	}
}

func TestRemoveDuringBackOff(t *testing.T) {
	f := newFixture(t)
	f.ensure(spec("etcd"))
	f.waitStarted(1).ended <- nil
	f.eventually("waiting", f.clock.HasWaiters)
	f.manager.Remove("etcd")
	f.clock.Step(time.Hour)
	if n := len(f.starter.all()); n != 1 {
		t.Errorf("removed process was started %d times", n)
	}
}

func TestProcessThatDoesNotEndIsKilled(t *testing.T) {
	f := newFixture(t)
	f.ensure(spec("stubborn"))
	h := f.waitStarted(1)
	removed := make(chan struct{})
	go func() {
		f.manager.Remove("stubborn")
		close(removed)
	}()
	f.eventually("grace period", f.clock.HasWaiters)
	f.clock.Step(10 * time.Second)
	<-removed
	if !h.terminated || !h.killed {
		t.Errorf("terminated %t, killed %t", h.terminated, h.killed)
	}
}

func TestRestart(t *testing.T) {
	f := newFixture(t)
	f.ensure(spec("etcd"))
	f.waitStarted(1)
	if err := f.manager.Restart("etcd"); err != nil {
		t.Fatal(err)
	}
	f.waitStarted(2)
	if err := f.manager.Restart("other"); err == nil || !strings.Contains(err.Error(), `no process "other"`) {
		t.Errorf("error %v", err)
	}
}

func TestProcessWaitsForWhatItNeeds(t *testing.T) {
	f := newFixture(t)
	s := spec("kubelet")
	s.WaitFor = "/run/containerd.sock"
	f.ensure(s)
	f.eventually("waiting", f.clock.HasWaiters)
	f.clock.Step(200 * time.Millisecond)
	f.eventually("waiting again", f.clock.HasWaiters)
	if n := len(f.starter.all()); n != 0 {
		t.Fatal("started without what it needs")
	}
	f.starter.setServing()
	f.clock.Step(200 * time.Millisecond)
	f.waitStarted(1)
	if s := f.status("kubelet"); s.Restarts != 0 || s.State != Running {
		t.Errorf("status %+v", s)
	}
}

func TestStopAllWhileWaitingForWhatItNeeds(t *testing.T) {
	f := newFixture(t)
	s := spec("kubelet")
	s.WaitFor = "/run/containerd.sock"
	f.ensure(s)
	f.ensure(spec("etcd"))
	f.waitStarted(1)
	f.manager.StopAll()
	if got := f.manager.Status(); len(got) != 0 {
		t.Errorf("status %+v", got)
	}
}

func TestStatusIsSorted(t *testing.T) {
	f := newFixture(t)
	for _, name := range []string{"c", "a", "b"} {
		f.ensure(spec(name))
	}
	var names []string
	for _, s := range f.manager.Status() {
		names = append(names, s.Name+" "+s.Program)
	}
	if got := strings.Join(names, ","); got != "a /bin/a,b /bin/b,c /bin/c" {
		t.Errorf("got %s", got)
	}
}

func TestUptime(t *testing.T) {
	s := Status{Since: time.Unix(100, 0)}
	if got := s.Uptime(time.Unix(161, 900_000_000)); got != 61*time.Second {
		t.Errorf("got %s", got)
	}
}
