// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"errors"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

func TestProblems(t *testing.T) {
	tests := []struct {
		name  string
		boxes []BoxStatus
		want  []string
	}{
		{name: "none"},
		{
			name:  "all run, one was restarted",
			boxes: []BoxStatus{{Name: "node-1", PID: 5, Processes: []process.Status{{Name: "etcd", State: process.Running, Restarts: 3}}}},
		},
		{
			name:  "process waits",
			boxes: []BoxStatus{{Name: "node-1", PID: 5, Processes: []process.Status{{Name: "etcd", State: process.Waiting, LastExit: "exit status 1"}}}},
			want:  []string{"node-1/etcd does not run: exit status 1"},
		},
		{
			name:  "box is gone",
			boxes: []BoxStatus{{Name: "node-1", LastExit: "signal: killed"}},
			want:  []string{"node-1 does not run: signal: killed"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := (Status{Boxes: tt.boxes}).Problems(); !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestBoxByName(t *testing.T) {
	s := Status{Boxes: []BoxStatus{{Name: "host"}, {Name: "node-1", PID: 7}}}
	if b, ok := s.Box("node-1"); !ok || b.PID != 7 {
		t.Errorf("got %+v, %t", b, ok)
	}
	if _, ok := s.Box("node-3"); ok {
		t.Error("found a box that is not there")
	}
}

func TestInnerPID(t *testing.T) {
	tests := map[string]int{
		"Name:\tsh\nNSpid:\t4711\t23\nThreads: 1\n": 23,
		"NSpid:\t4711\n": 4711,
		"NSpid:\n":       0,
		"NSpid:\tx\n":    0,
		"Name:\tsh\n":    0,
	}
	for in, want := range tests {
		if got := innerPID(in); got != want {
			t.Errorf("%q: got %d, want %d", in, got, want)
		}
	}
}

func TestTranslatePIDsOfThisNamespace(t *testing.T) {
	cmd := exec.Command("/bin/sleep", "60")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}()
	list := []process.Status{{PID: cmd.Process.Pid}, {PID: 1 << 30}}
	translatePIDs(os.Getpid(), list)
	if list[0].PID != cmd.Process.Pid || list[1].PID != 0 {
		t.Errorf("got %+v", list)
	}
}

func TestPIDFileIsTakenOnce(t *testing.T) {
	dir := state.Dir(t.TempDir())
	if _, running := Running(dir); running {
		t.Error("runs without a PID file")
	}
	first, err := takePIDFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if pid, running := Running(dir); !running || pid != os.Getpid() {
		t.Errorf("running: %d, %t", pid, running)
	}
	if _, err := takePIDFile(dir); !errors.Is(err, ErrRunning) {
		t.Errorf("a second one: %v", err)
	}
	first.Close()
	// The number is still in the file, but nobody holds the lock.
	if pid, running := Running(dir); running {
		t.Errorf("runs as %d after its end", pid)
	}
	again, err := takePIDFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

func TestDialWithoutSupervisor(t *testing.T) {
	_, err := Dial(state.Dir(t.TempDir()))
	if err == nil || !strings.Contains(err.Error(), "sandbox up") {
		t.Errorf("error %v", err)
	}
}

func TestSortedKeys(t *testing.T) {
	if got := sortedKeys(map[string]int{"b": 1, "a": 2}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("got %v", got)
	}
}
