// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/build"
	"github.com/deckhouse/virtualization/sandbox/internal/cluster"
	"github.com/deckhouse/virtualization/sandbox/internal/report"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
)

// session is what the steps of "up" share.
type session struct {
	state    state.Dir
	repo     string
	report   *report.Reporter
	builder  *build.Builder
	artifact cluster.Artifacts
	client   *supervisor.Client
	// out is where people read; client8v is the built d8v.
	out      io.Writer
	client8v string
	// cancel ends the command for a reason.
	cancel context.CancelCauseFunc
}

// errSupervisorEnded ends an "up" whose cluster was taken away.
var errSupervisorEnded = errors.New("the supervisor ended in the middle: see \"sandbox logs supervisor\", and type \"sandbox up\" to go on")

// newSession prepares a command that may build things.
func newSession(out io.Writer, repo string) (*session, error) {
	dir, err := state.FromEnvironment()
	if err != nil {
		return nil, err
	}
	if repo, err = findRepository(repo); err != nil {
		return nil, err
	}
	reporter := report.New(out, clock.RealClock{})
	builder, err := build.New(string(dir), repo, func(line string) { reporter.Say("%s", line) })
	if err != nil {
		return nil, err
	}
	return &session{state: dir, repo: repo, report: reporter, builder: builder, out: out}, nil
}

// findRepository looks for the sources from the working directory upwards.
func findRepository(path string) (string, error) {
	if path != "" {
		return filepath.Abs(path)
	}
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "sandbox", "go.mod")); err == nil {
			return dir, nil
		}
		if dir == "/" {
			return "", errors.New("this is not the module's repository: change into it, or name it with --repository")
		}
	}
}

// lockState keeps a second "up" or "down" away until this one has ended.
func lockState(dir state.Dir) (unlock func(), err error) {
	if err := os.MkdirAll(filepath.Dir(dir.Lock()), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(dir.Lock(), os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, fmt.Errorf("another \"sandbox\" command changes %s right now: wait for it, or end it", dir)
	}
	return func() { f.Close() }, nil
}

// nodeShells returns a way into every running node, by name.
func nodeShells(status supervisor.Status) map[string]cluster.NodeShell {
	shells := map[string]cluster.NodeShell{}
	for _, b := range status.Boxes {
		if b.PID != 0 && b.Name != hostBox {
			shells[b.Name] = cluster.NodeShell{PID: b.PID, Path: programDirs(b)}
		}
	}
	return shells
}

// programDirs are the directories that a node's own programs come from.
func programDirs(b supervisor.BoxStatus) []string {
	seen := map[string]bool{}
	var dirs []string
	for _, p := range b.Processes {
		if dir := filepath.Dir(p.Program); p.Program != "" && !seen[dir] {
			seen[dir] = true
			dirs = append(dirs, dir)
		}
	}
	return dirs
}

// kubectl prepares a call of the built kubectl.
func (s *session) kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(s.artifact.Kubernetes, "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.state.Kubeconfig())
	return cmd
}
