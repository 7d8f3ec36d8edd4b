// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	clocktesting "k8s.io/utils/clock/testing"
)

type buffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func TestPhasesAreTimed(t *testing.T) {
	out, clock := &buffer{}, clocktesting.NewFakeClock(time.Unix(0, 0))
	r := New(out, clock)
	err := r.Phase("build", func() error {
		clock.Step(1200 * time.Millisecond)
		r.Say("compiled %s", "etcd")
		clock.Step(61 * time.Second)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if first, last := lines[0], lines[len(lines)-1]; first != "1s  build     compiled etcd" || last != "  1m2s  build     done in 1m2.2s" {
		t.Errorf("lines %q", lines)
	}
}

func TestFailedPhaseNamesItself(t *testing.T) {
	out := &buffer{}
	r := New(out, clocktesting.NewFakeClock(time.Unix(0, 0)))
	cause := errors.New("no space left")
	err := r.Phase("images", func() error { return cause })
	if !errors.Is(err, cause) || err.Error() != "images: no space left" {
		t.Errorf("error %v", err)
	}
	if got := out.String(); got != "    0s  images    failed after 0s\n" {
		t.Errorf("printed %q", got)
	}
}

// However long a step is silent, there is a line at least every 30 seconds.
func TestSilenceIsBroken(t *testing.T) {
	out, clock := &buffer{}, clocktesting.NewFakeClock(time.Unix(0, 0))
	r := New(out, clock)
	_ = r.Phase("build", func() error {
		r.Say("linking etcd")
		r.Note("linking etcd, 40%%")
		for i := range 6 {
			clock.Step(5 * time.Second)
			waitTick(t, out, (i+1)/4)
		}
		return nil
	})
	want := "    0s  build     linking etcd\n   20s  build     still: linking etcd, 40%\n   30s  build     done in 30s\n"
	if got := out.String(); got != want {
		t.Errorf("printed %q, want %q", got, want)
	}
}

// waitTick waits until so many lines were printed out of turn; a tick that
// prints nothing gets a moment to do so.
func waitTick(t *testing.T, out *buffer, repeats int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for strings.Count(out.String(), "still:") < repeats {
		if time.Now().After(deadline) {
			t.Fatalf("printed %q", out.String())
		}
		time.Sleep(time.Millisecond)
	}
	time.Sleep(5 * time.Millisecond)
}
