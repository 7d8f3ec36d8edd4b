// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/nstest"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

// TestMain lets the test binary be the first process of a box, as the sandbox's
// own binary is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == box.InitCommand {
		if err := box.Init(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	if len(os.Args) > 1 && os.Args[1] == Command {
		os.Exit(supervise())
	}
	os.Exit(m.Run())
}

// noCgroups notes what would be done with cgroups.
type noCgroups struct {
	mu    sync.Mutex
	calls []string
}

func (c *noCgroups) note(call string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls = append(c.calls, call)
	return nil
}

func (c *noCgroups) Create(name string) error       { return c.note("create " + name) }
func (c *noCgroups) Enter(name string, _ int) error { return c.note("enter " + name) }
func (c *noCgroups) Remove(name string) error       { return c.note("remove " + name) }
func (c *noCgroups) NoteDelegation(string) error    { return c.note("note") }

func (c *noCgroups) all() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.calls)
}

// running starts a supervisor in this process and connects with it.
func running(t *testing.T) (state.Dir, *Client, *noCgroups, <-chan error) {
	t.Helper()
	dir := state.Dir(t.TempDir())
	groups := &noCgroups{}
	ended := make(chan error, 1)
	go func() { ended <- serve(dir, groups) }()
	client, err := waitForSocket(context.Background(), dir, ended)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return dir, client, groups, ended
}

func hostSpec(dir state.Dir) box.Spec {
	return box.Spec{Name: "host", Cgroup: "test/host", Logs: dir.Logs("host")}
}

func sleeper() process.Spec { return process.Spec{Name: "sleep", Argv: []string{"/bin/sleep", "60"}} }

// waitRunning waits until a process runs and returns its number on the machine.
func waitRunning(t *testing.T, c *Client, other int) int {
	t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		s, err := c.Status()
		if err != nil {
			t.Fatal(err)
		}
		if b, ok := s.Box("host"); ok && len(b.Processes) == 1 && b.Processes[0].PID != 0 && b.Processes[0].PID != other {
			return b.Processes[0].PID
		}
		if time.Now().After(deadline) {
			t.Fatalf("process does not run: %+v", s)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func TestSupervisorRunsABoxUntilItIsStopped(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir, client, groups, ended := running(t)
	for range 2 {
		if err := client.EnsureBox(hostSpec(dir)); err != nil {
			t.Fatal(err)
		}
		if err := client.EnsureProcess("host", sleeper()); err != nil {
			t.Fatal(err)
		}
	}
	pid := waitRunning(t, client, 0)
	if comm, err := os.ReadFile(fmt.Sprintf("/proc/%d/comm", pid)); err != nil || string(comm) != "sleep\n" {
		t.Errorf("process %d is %q, %v", pid, comm, err)
	}
	gone := client.Ended()
	if err := Stop(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if err := <-ended; err != nil {
		t.Errorf("supervisor ended with %v", err)
	}
	<-gone
	if _, err := os.Stat(fmt.Sprintf("/proc/%d", pid)); !os.IsNotExist(err) {
		t.Error("the process outlived its supervisor")
	}
	own := filepath.Join(dir.CgroupName(), "supervisor")
	want := []string{"note", "create " + own, "enter " + own, "remove test/host", "create test/host", "enter test/host", "remove test/host"}
	if got := groups.all(); !slices.Equal(got, want) {
		t.Errorf("cgroups %q, want %q", got, want)
	}
}

func TestKilledBoxComesBackWithItsProcess(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir, client, _, _ := running(t)
	if err := client.EnsureBox(hostSpec(dir)); err != nil {
		t.Fatal(err)
	}
	if err := client.EnsureProcess("host", sleeper()); err != nil {
		t.Fatal(err)
	}
	first := waitRunning(t, client, 0)
	s, err := client.Status()
	if err != nil {
		t.Fatal(err)
	}
	if err := unix.Kill(s.Boxes[0].PID, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	waitRunning(t, client, first)
	s, err = client.Status()
	if err != nil {
		t.Fatal(err)
	}
	if b := s.Boxes[0]; b.Restarts != 1 || b.LastExit != "signal: killed" {
		t.Errorf("box %+v", b)
	}
}

func TestChangedBoxIsReplaced(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir, client, _, _ := running(t)
	spec := hostSpec(dir)
	var pids []int
	for _, parameter := range []string{"1", "1", "2"} {
		spec.Sysctls = []box.Sysctl{{Name: "no.such.parameter", Value: parameter}}
		if err := client.EnsureBox(spec); err != nil {
			t.Fatal(err)
		}
		s, err := client.Status()
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, s.Boxes[0].PID)
	}
	if pids[0] != pids[1] || pids[1] == pids[2] {
		t.Errorf("boxes %v, want the first kept and the last one new", pids)
	}
}

func TestRequestsForUnknownBoxes(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	_, client, _, _ := running(t)
	calls := map[string]error{
		"ensure":  client.EnsureProcess("node-9", sleeper()),
		"remove":  client.RemoveProcess("node-9", "x"),
		"restart": client.RestartProcess("node-9", "x"),
	}
	for name, err := range calls {
		if err == nil || !strings.Contains(err.Error(), `no box "node-9"`) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestProcessOfABoxIsRestartedAndRemoved(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir, client, _, _ := running(t)
	if err := client.EnsureBox(hostSpec(dir)); err != nil {
		t.Fatal(err)
	}
	if err := client.EnsureProcess("host", sleeper()); err != nil {
		t.Fatal(err)
	}
	first := waitRunning(t, client, 0)
	if err := client.RestartProcess("host", "sleep"); err != nil {
		t.Fatal(err)
	}
	waitRunning(t, client, first)
	if err := client.RemoveProcess("host", "sleep"); err != nil {
		t.Fatal(err)
	}
	if s, err := client.Status(); err != nil || len(s.Boxes[0].Processes) != 0 {
		t.Errorf("status %+v, %v", s, err)
	}
}

func TestSecondSupervisorIsRefused(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir, _, _, _ := running(t)
	if err := serve(dir, &noCgroups{}); !errors.Is(err, ErrRunning) {
		t.Errorf("error %v", err)
	}
}

// lo is down in a fresh namespace, so the nodes' side of this forward is the
// switch's own address.
func TestNodesReachTheMachineThroughAForward(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	_, client, _, _ := running(t)
	r := ForwardRequest{Listen: "10.77.0.254:4283", Target: "127.0.0.1:4283", FromNodes: true}
	for range 2 {
		if err := client.EnsureForward(r); err != nil {
			t.Fatal(err)
		}
	}
	r.Target = "127.0.0.1:4284"
	if err := client.EnsureForward(r); err != nil {
		t.Errorf("to another target: %v", err)
	}
}

func TestStartKeepsASupervisorThatUnderstands(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir, _, _, _ := running(t)
	client, err := Start(context.Background(), dir, func(string, ...any) { t.Error("the supervisor was replaced") })
	if err != nil {
		t.Fatal(err)
	}
	client.Close()
}

func TestStopWithoutSupervisor(t *testing.T) {
	if err := Stop(context.Background(), state.Dir(t.TempDir())); err != nil {
		t.Error(err)
	}
}
