// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/rpc"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/deckhouse/virtualization/sandbox/internal/box"
	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

// Command is the command of the sandbox binary that calls Serve.
const Command = "supervise"

const (
	startTimeout = 20 * time.Second
	stopTimeout  = time.Minute
	pollInterval = 100 * time.Millisecond
)

// answerTimeout is for questions that a supervisor answers at once. It is long,
// because whoever does not answer is killed with all it runs; tests shorten it.
var answerTimeout = 15 * time.Second

// ErrNotRunning says that there is no supervisor to talk to.
var ErrNotRunning = errors.New("the sandbox does not run: type \"sandbox up\"")

// Client talks to the supervisor.
type Client struct{ rpc *rpc.Client }

// Dial connects with the running supervisor.
func Dial(dir state.Dir) (*Client, error) {
	c, err := rpc.Dial("unix", dir.SupervisorSocket())
	if err != nil {
		return nil, ErrNotRunning
	}
	return &Client{rpc: c}, nil
}

// Close ends the connection.
func (c *Client) Close() { c.rpc.Close() }

// EnsureBox makes a box run.
func (c *Client) EnsureBox(spec box.Spec) error { return c.call("EnsureBox", spec, &Nothing{}) }

// EnsureProcess makes a process run in a box.
func (c *Client) EnsureProcess(boxName string, spec process.Spec) error {
	return c.call("EnsureProcess", ProcessRequest{Box: boxName, Process: spec}, &Nothing{})
}

// RemoveProcess stops a process in a box.
func (c *Client) RemoveProcess(boxName, name string) error {
	return c.call("RemoveProcess", ProcessRequest{Box: boxName, Process: process.Spec{Name: name}}, &Nothing{})
}

// RestartProcess starts a process in a box again.
func (c *Client) RestartProcess(boxName, name string) error {
	return c.call("RestartProcess", ProcessRequest{Box: boxName, Process: process.Spec{Name: name}}, &Nothing{})
}

// EnsureForward makes an address of the machine lead into the nodes' network, or
// the other way round.
func (c *Client) EnsureForward(r ForwardRequest) error {
	return c.call("EnsureForward", r, &Nothing{})
}

// Status asks for the state of everything.
func (c *Client) Status() (Status, error) {
	var s Status
	err := c.callAtOnce("Status", Nothing{}, &s)
	return s, err
}

// Ended is closed when the supervisor ends, however it does.
func (c *Client) Ended() <-chan struct{} {
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = c.call("Wait", Nothing{}, &Nothing{})
	}()
	return ended
}

func (c *Client) call(method string, argument, answer any) error {
	return c.rpc.Call(serviceName+"."+method, argument, answer)
}

// callAtOnce does not wait for one that is frozen: the kernel takes connections on
// its behalf.
func (c *Client) callAtOnce(method string, argument, answer any) error {
	call := c.rpc.Go(serviceName+"."+method, argument, answer, make(chan *rpc.Call, 1))
	select {
	case <-call.Done:
		return call.Error
	case <-time.After(answerTimeout):
		return errNoAnswer
	}
}

// understands says whether the supervisor is of this program's kind. Another one
// runs after the sandbox itself was changed.
func (c *Client) understands() bool {
	var version int
	return c.callAtOnce("Protocol", Nothing{}, &version) == nil && version == protocol
}

// Start connects with the supervisor and starts it first if there is none. One
// that speaks another protocol is replaced, with all it runs.
func Start(ctx context.Context, dir state.Dir, say func(format string, args ...any)) (*Client, error) {
	if c, err := Dial(dir); err == nil {
		if c.understands() {
			return c, nil
		}
		c.Close()
		say("the running supervisor is of another version, or does not answer: starting anew")
		if err := Stop(ctx, dir); err != nil {
			return nil, err
		}
	}
	return launchSupervisor(ctx, dir)
}

// errNoAnswer says that there is a supervisor that does not react.
var errNoAnswer = errors.New("the supervisor does not answer")

// errNoFailure is the end of a supervisor that reported none.
var errNoFailure = errors.New("exit status 0")

// launchSupervisor starts a supervisor that outlives this command.
func launchSupervisor(ctx context.Context, dir state.Dir) (*Client, error) {
	if err := os.MkdirAll(dir.Logs(), 0o755); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(dir.Logs("supervisor.log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	cmd := exec.Command("/proc/self/exe", Command)
	cmd.Dir = "/"
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), state.EnvVar + "=" + string(dir)}
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start supervisor: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmp.Or(cmd.Wait(), errNoFailure) }()
	return waitForSocket(ctx, dir, ended)
}

func waitForSocket(ctx context.Context, dir state.Dir, ended <-chan error) (*Client, error) {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for {
		if c, err := Dial(dir); err == nil {
			return c, nil
		}
		select {
		case err := <-ended:
			return nil, fmt.Errorf("supervisor ended at once (%w): see %s", err, dir.Logs("supervisor.log"))
		case <-ctx.Done():
			return nil, fmt.Errorf("supervisor does not answer: see %s", dir.Logs("supervisor.log"))
		case <-time.After(pollInterval):
		}
	}
}

// Stop ends the supervisor with everything it runs and returns when it is gone.
// One that does not answer is killed: the kernel cleans up just as well.
func Stop(ctx context.Context, dir state.Dir) error {
	if c, err := Dial(dir); err == nil {
		err = c.callAtOnce("ShutDown", Nothing{}, &Nothing{})
		c.Close()
		if err == nil && waitGone(ctx, dir, stopTimeout) == nil {
			return nil
		}
	}
	pid, running := Running(dir)
	if !running {
		return nil
	}
	if err := unix.Kill(pid, unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("kill supervisor %d: %w", pid, err)
	}
	return waitGone(ctx, dir, stopTimeout)
}

func waitGone(ctx context.Context, dir state.Dir, timeout time.Duration) error {
	deadline := time.Now().Add(timeout)
	for time.Now().Before(deadline) {
		if _, running := Running(dir); !running {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(pollInterval):
		}
	}
	return fmt.Errorf("supervisor is still there after %s: see %s", timeout, dir.Logs("supervisor.log"))
}

// Running says whether a supervisor lives. Its lock on the PID file tells, not
// the number in it, which may belong to somebody else by now.
func Running(dir state.Dir) (pid int, running bool) {
	f, err := os.Open(dir.SupervisorPID())
	if err != nil {
		return 0, false
	}
	defer f.Close()
	if err := unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB); err == nil {
		return 0, false
	}
	data := make([]byte, 32)
	n, _ := f.ReadAt(data, 0)
	pid, err = strconv.Atoi(strings.TrimSpace(string(data[:n])))
	return pid, err == nil
}
