// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package process

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"
)

func TestOSRunsAProcessWithNothingInherited(t *testing.T) {
	t.Setenv("LEAK", "yes")
	log := &buffer{}
	h, err := NewOS().Start(Spec{Name: "sh", Argv: []string{"/bin/sh", "-c", "echo $KEPT-$LEAK; pwd; exit 3"}, Env: []string{"KEPT=kept"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	if got := describeExit(h.Wait()); got != "exit status 3" {
		t.Errorf("ended with %q", got)
	}
	if got := log.String(); got != "kept-\n/\n" {
		t.Errorf("printed %q", got)
	}
}

func TestOSTerminatesAndKills(t *testing.T) {
	tests := []struct {
		name string
		end  func(Handle) error
		want string
	}{
		{"terminate", Handle.Terminate, "signal: terminated"},
		{"kill", Handle.Kill, "signal: killed"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, err := NewOS().Start(Spec{Name: "sleep", Argv: []string{"/bin/sleep", "60"}}, &buffer{})
			if err != nil {
				t.Fatal(err)
			}
			if err := tt.end(h); err != nil {
				t.Fatal(err)
			}
			if got := describeExit(h.Wait()); got != tt.want {
				t.Errorf("ended with %q", got)
			}
		})
	}
}

func TestOSReportsAMissingProgram(t *testing.T) {
	if _, err := NewOS().Start(Spec{Name: "x", Argv: []string{"/no/such/program"}}, &buffer{}); err == nil {
		t.Error("no error")
	}
}

// A child that the starter does not know stands for an orphan: the test process
// is its parent as the first process of a box would be.
func TestReapBuriesOrphansOnly(t *testing.T) {
	o := NewOS()
	own, err := o.Start(Spec{Name: "own", Argv: []string{"/bin/sh", "-c", "exit 7"}}, &buffer{})
	if err != nil {
		t.Fatal(err)
	}
	orphan := exec.Command("/bin/sh", "-c", "exit 0")
	if err := orphan.Start(); err != nil {
		t.Fatal(err)
	}
	waitZombie(t, own.PID())
	waitZombie(t, orphan.Process.Pid)
	signals := make(chan os.Signal, 1)
	signals <- syscall.SIGCHLD
	close(signals)
	o.Reap(signals)
	if _, err := os.Stat(filepath.Join("/proc", strconv.Itoa(orphan.Process.Pid))); !os.IsNotExist(err) {
		t.Error("the orphan is still there")
	}
	if got := describeExit(own.Wait()); got != "exit status 7" {
		t.Errorf("own process ended with %q", got)
	}
}

func waitZombie(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for time.Now().Before(deadline) {
		stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		if state, _ := parseStat(stat); state == 'Z' {
			return
		}
		time.Sleep(time.Millisecond)
	}
	t.Fatal("process did not end")
}

func TestServes(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "s")
	o := NewOS()
	if o.Serves(socket) {
		t.Error("a socket that is not there serves")
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if !o.Serves(socket) {
		t.Error("a socket with a listener does not serve")
	}
}

func TestParseStat(t *testing.T) {
	tests := []struct {
		name, line string
		state      byte
		parent     int
	}{
		{name: "ordinary", line: "7 (sh) S 1 7 7 0", state: 'S', parent: 1},
		{name: "parenthesis in name", line: "7 (a) b) R) Z 12 7 7", state: 'Z', parent: 12},
		{name: "cut off", line: "7 (sh) S"},
		{name: "empty", line: ""},
		{name: "no number", line: "7 (sh) S x 1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if state, parent := parseStat([]byte(tt.line)); state != tt.state || parent != tt.parent {
				t.Errorf("got %q, %d", state, parent)
			}
		})
	}
}

func TestResidentMemory(t *testing.T) {
	if got := ResidentMemory(os.Getpid()); got < 1<<20 {
		t.Errorf("this process has %d bytes", got)
	}
	if got := ResidentMemory(0); got != 0 {
		t.Errorf("no process has %d bytes", got)
	}
}
