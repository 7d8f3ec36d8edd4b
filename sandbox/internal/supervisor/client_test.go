// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/rpc"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/nstest"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

// behaviour is the file in the state directory that tells a supervisor of these
// tests what to do; the client hands it no other word.
func behaviour(dir state.Dir) string { return dir.Path("behaviour") }

func behave(t *testing.T, dir state.Dir, how string) {
	t.Helper()
	if err := os.WriteFile(behaviour(dir), []byte(how), 0o600); err != nil {
		t.Fatal(err)
	}
}

// supervise is what the test binary does when the client starts it.
func supervise() int {
	dir, err := state.FromEnvironment()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 2
	}
	how, _ := os.ReadFile(behaviour(dir))
	switch string(how) {
	case "die":
		fmt.Fprintln(os.Stderr, "no memory")
		return 3
	case "leave":
		return 0
	case "hang":
		// It has the lock and no socket.
		lock, err := takePIDFile(dir)
		if err != nil {
			return 4
		}
		defer lock.Close()
		time.Sleep(time.Minute)
		return 0
	}
	if err := serve(dir, &noCgroups{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// spawn starts a supervisor that the client knows nothing of, and waits until it
// has the lock.
func spawn(t *testing.T, dir state.Dir, how string) *exec.Cmd {
	t.Helper()
	behave(t, dir, how)
	cmd := exec.Command("/proc/self/exe", Command)
	cmd.Env = []string{state.EnvVar + "=" + string(dir)}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	reaped := make(chan struct{})
	go func() {
		defer close(reaped)
		_ = cmd.Wait()
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-reaped
	})
	deadline := time.Now().Add(20 * time.Second)
	for {
		if pid, is := Running(dir); is && pid == cmd.Process.Pid {
			return cmd
		}
		if time.Now().After(deadline) {
			t.Fatal("the supervisor never took its lock")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func silent(string, ...any) {}

// oldSupervisor speaks a protocol that this program does not.
type oldSupervisor struct {
	once sync.Once
	end  func()
}

func (o *oldSupervisor) Protocol(_ Nothing, version *int) error {
	*version = protocol - 1
	return nil
}

func (o *oldSupervisor) ShutDown(Nothing, *Nothing) error {
	o.once.Do(o.end)
	return nil
}

func TestSupervisorOfAnotherVersionIsReplaced(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir := state.Dir(t.TempDir())
	lock, err := takePIDFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("unix", dir.SupervisorSocket())
	if err != nil {
		t.Fatal(err)
	}
	old := &oldSupervisor{end: func() {
		_ = listener.Close()
		_ = lock.Close()
	}}
	server := rpc.NewServer()
	if err := server.RegisterName("Supervisor", old); err != nil {
		t.Fatal(err)
	}
	go server.Accept(listener)

	var said []string
	client, err := Start(context.Background(), dir, func(format string, args ...any) { said = append(said, fmt.Sprintf(format, args...)) })
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	status, err := client.Status()
	if err != nil || status.PID == os.Getpid() {
		t.Errorf("status %+v, %v: the old one still answers", status, err)
	}
	if len(said) != 1 || !strings.Contains(said[0], "another version") {
		t.Errorf("said %q", said)
	}
	if err := Stop(context.Background(), dir); err != nil {
		t.Error(err)
	}
	if pid, running := Running(dir); running {
		t.Errorf("supervisor %d is still there", pid)
	}
}

func TestSupervisorThatDiesAtOnceSaysWhere(t *testing.T) {
	for how, want := range map[string]string{"die": "supervisor ended at once (exit status 3): see ", "leave": "supervisor ended at once (exit status 0): see "} {
		dir := state.Dir(t.TempDir())
		behave(t, dir, how)
		_, err := Start(context.Background(), dir, silent)
		if err == nil || err.Error() != want+dir.Logs("supervisor.log") {
			t.Errorf("%s: got %v", how, err)
		}
		log, err := os.ReadFile(dir.Logs("supervisor.log"))
		if err != nil || (how == "die" && string(log) != "no memory\n") {
			t.Errorf("%s: the log says %q, %v", how, log, err)
		}
	}
}

func TestStartGivesUpWithItsContext(t *testing.T) {
	dir := state.Dir(t.TempDir())
	behave(t, dir, "hang")
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	_, err := Start(ctx, dir, silent)
	if err == nil || !strings.HasPrefix(err.Error(), "supervisor does not answer: see ") {
		t.Errorf("got %v", err)
	}
	if err := Stop(context.Background(), dir); err != nil {
		t.Errorf("what was started cannot be stopped: %v", err)
	}
}

// A supervisor without a socket, because somebody removed it, still has the cluster.
func TestStopKillsOneThatCannotBeReached(t *testing.T) {
	dir := state.Dir(t.TempDir())
	spawn(t, dir, "hang")
	if _, err := Dial(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("dialled it: %v", err)
	}
	if err := Stop(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if pid, running := Running(dir); running {
		t.Errorf("supervisor %d is still there", pid)
	}
}

// A supervisor that is frozen takes connections, by the kernel, and never answers.
func TestStopKillsOneThatIsFrozen(t *testing.T) {
	if !nstest.Isolated(t) {
		return
	}
	dir := state.Dir(t.TempDir())
	cmd := spawn(t, dir, "serve")
	client, err := waitForSocket(context.Background(), dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if err := cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	waitStopped(t, cmd.Process.Pid)
	ordinary := answerTimeout
	answerTimeout = 300 * time.Millisecond
	defer func() { answerTimeout = ordinary }()
	began := time.Now()
	if client.understands() {
		t.Error("a frozen supervisor understands")
	}
	if _, err := client.Status(); !errors.Is(err, errNoAnswer) {
		t.Errorf("its status: %v", err)
	}
	if err := Stop(context.Background(), dir); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took > 30*time.Second {
		t.Errorf("it took %s", took)
	}
	if err := unix.Kill(cmd.Process.Pid, 0); err == nil {
		if _, running := Running(dir); running {
			t.Error("it is still there")
		}
	}
}

// waitStopped waits until every thread of a process stands still.
func waitStopped(t *testing.T, pid int) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	for {
		threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid))
		if err != nil {
			t.Fatal(err)
		}
		moving := slices.ContainsFunc(threads, func(file string) bool {
			stat, err := os.ReadFile(file)
			return err == nil && !strings.Contains(string(stat), ") T ")
		})
		if len(threads) > 0 && !moving {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("the process does not stop")
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func TestRunningFollowsTheLockNotTheNumber(t *testing.T) {
	dir := state.Dir(t.TempDir())
	if pid, running := Running(dir); running {
		t.Errorf("nothing runs as %d", pid)
	}
	// The number of somebody else, left behind by a supervisor that was killed.
	lock, err := takePIDFile(dir)
	if err != nil {
		t.Fatal(err)
	}
	if pid, running := Running(dir); !running || pid != os.Getpid() {
		t.Errorf("%d, %v, want %d", pid, running, os.Getpid())
	}
	_ = lock.Close()
	if pid, running := Running(dir); running {
		t.Errorf("the number %d of the dead counts", pid)
	}
	if err := Stop(context.Background(), dir); err != nil {
		t.Errorf("stopping what is not there: %v", err)
	}
}
