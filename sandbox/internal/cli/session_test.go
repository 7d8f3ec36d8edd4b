// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/sandbox/internal/process"
	"github.com/deckhouse/virtualization/sandbox/internal/report"
	"github.com/deckhouse/virtualization/sandbox/internal/state"
	"github.com/deckhouse/virtualization/sandbox/internal/supervisor"
	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

func TestFindRepository(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "repo", "images", "dvcr")
	for _, dir := range []string{deep, filepath.Join(root, "repo", "sandbox")} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(root, "repo", "sandbox", "go.mod"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Chdir(deep)
	if got, err := findRepository(""); err != nil || got != filepath.Join(root, "repo") {
		t.Errorf("from inside: %q, %v", got, err)
	}
	t.Chdir(root)
	if _, err := findRepository(""); err == nil || !strings.Contains(err.Error(), "--repository") {
		t.Errorf("from outside: %v", err)
	}
	if got, err := findRepository("repo"); err != nil || got != filepath.Join(root, "repo") {
		t.Errorf("by name: %q, %v", got, err)
	}
}

func TestLockStateKeepsASecondCommandAway(t *testing.T) {
	dir := state.Dir(t.TempDir())
	unlock, err := lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := lockState(dir); err == nil || !strings.Contains(err.Error(), string(dir)) {
		t.Errorf("error %v", err)
	}
	unlock()
	unlock, err = lockState(dir)
	if err != nil {
		t.Fatal(err)
	}
	unlock()
}

func boxes() supervisor.Status {
	since := time.Unix(1000, 0)
	return supervisor.Status{
		PID: 10, Since: since,
		Boxes: []supervisor.BoxStatus{
			{Name: "host", PID: 11, Since: since},
			{Name: "node-1", PID: 12, Since: since, Processes: []process.Status{
				{Name: "containerd", Program: "/cache/containerd/containerd", State: process.Running, PID: 13, Since: since, MemoryBytes: 50 << 20},
				{Name: "etcd", Program: "/cache/kubernetes/etcd", State: process.Waiting, Restarts: 2, LastExit: "exit status 1", Since: since.Add(time.Minute)},
				{Name: "kubelet", Program: "/cache/kubernetes/kubelet", State: process.Running, PID: 14, Since: since},
			}},
			{Name: "node-2", LastExit: "signal: killed", Restarts: 1, Since: since.Add(time.Minute)},
		},
	}
}

func TestNodeShells(t *testing.T) {
	shells := nodeShells(boxes())
	if len(shells) != 1 {
		t.Fatalf("shells %v, want only the node that runs", shells)
	}
	s := shells["node-1"]
	if got := strings.Join(s.Path, ":"); s.PID != 12 || got != "/cache/containerd:/cache/kubernetes" {
		t.Errorf("got %d, %s", s.PID, got)
	}
}

func TestPrintStatus(t *testing.T) {
	var out bytes.Buffer
	printStatus(&out, boxes(), time.Unix(1090, 0))
	want := []string{
		"PROCESS            STATE    PID  RESTARTS  FOR    MEMORY  LAST EXIT",
		"supervisor         Running  10   0         1m30s          ",
		"host               Running  11   0         1m30s          ",
		"node-1             Running  12   0         1m30s          ",
		"node-1/containerd  Running  13   0         1m30s  50 Mi   ",
		"node-1/etcd        Waiting  0    2         30s    0 Mi    exit status 1",
		"node-1/kubelet     Running  14   0         1m30s  0 Mi    ",
		"node-2             Waiting  0    1         30s            signal: killed",
	}
	if got := strings.TrimSuffix(out.String(), "\n"); got != strings.Join(want, "\n") {
		t.Errorf("printed\n%s\nwant\n%s", got, strings.Join(want, "\n"))
	}
}

func TestRunStepsStopsAtAFailure(t *testing.T) {
	var out bytes.Buffer
	s := &session{report: report.New(&out, clock.RealClock{})}
	var ran []string
	list := []step{
		{"one", func(context.Context, *session) error { ran = append(ran, "one"); return nil }},
		{"two", func(context.Context, *session) error { ran = append(ran, "two"); return errors.New("broken") }},
		{"three", func(context.Context, *session) error { ran = append(ran, "three"); return nil }},
	}
	err := runSteps(context.Background(), s, list)
	if err == nil || err.Error() != "two: broken" || strings.Join(ran, " ") != "one two" {
		t.Errorf("ran %v, error %v", ran, err)
	}
}

func TestRunStepsSaysWhyItsClusterWentAway(t *testing.T) {
	s := &session{report: report.New(&bytes.Buffer{}, clock.RealClock{})}
	err := runSteps(context.Background(), s, []step{{"wait", func(ctx context.Context, s *session) error {
		s.cancel(errSupervisorEnded)
		<-ctx.Done()
		return errors.New("connection refused")
	}}})
	if !errors.Is(err, errSupervisorEnded) {
		t.Errorf("error %v", err)
	}
}

func TestInterruptedStepsReportTheirOwnError(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{report: report.New(&bytes.Buffer{}, clock.RealClock{})}
	err := runSteps(ctx, s, []step{{"wait", func(ctx context.Context, _ *session) error {
		cancel()
		return ctx.Err()
	}}})
	if !errors.Is(err, context.Canceled) || err.Error() != "wait: context canceled" {
		t.Errorf("error %v", err)
	}
}

func TestCopyProgram(t *testing.T) {
	dir := t.TempDir()
	source, target := filepath.Join(dir, "source"), filepath.Join(dir, "target")
	if err := os.WriteFile(source, []byte("program"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := copyProgram(source, target); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(target)
	if err != nil || info.Mode().Perm()&0o111 == 0 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := copyProgram(filepath.Join(dir, "none"), target); !os.IsNotExist(err) {
		t.Errorf("error %v", err)
	}
}

func TestRetry(t *testing.T) {
	tries := 0
	if err := retry(context.Background(), func() error {
		tries++
		if tries < 2 {
			return errors.New("not yet")
		}
		return nil
	}); err != nil || tries != 2 {
		t.Errorf("%d tries, %v", tries, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := retry(ctx, func() error { return errors.New("never") }); err == nil || err.Error() != "never" {
		t.Errorf("error %v", err)
	}
}

func TestExitCode(t *testing.T) {
	failed := exec.Command("/bin/sh", "-c", "exit 3").Run()
	tests := map[int]error{1: errors.New("x"), 3: failed}
	for want, err := range tests {
		if got := ExitCode(err); got != want {
			t.Errorf("%v: %d", err, got)
		}
	}
}

func TestEveryCommandHelps(t *testing.T) {
	root := New()
	var visible []string
	for _, c := range root.Commands() {
		if c.Hidden {
			continue
		}
		visible = append(visible, c.Name())
		if c.Short == "" || strings.HasSuffix(c.Short, ".") {
			t.Errorf("%s: short help %q", c.Name(), c.Short)
		}
	}
	for _, want := range []string{"up", "down", "status", "logs", "load", "kubectl", "exec", "restart", "build"} {
		if !strings.Contains(" "+strings.Join(visible, " ")+" ", " "+want+" ") {
			t.Errorf("no command %s in %v", want, visible)
		}
	}
	if !strings.Contains(root.Long, "$SANDBOX_STATE") {
		t.Error("help does not name the state directory's variable")
	}
}

func TestCommandsWithoutSandbox(t *testing.T) {
	t.Setenv("SANDBOX_STATE", filepath.Join(t.TempDir(), "state"))
	for _, args := range [][]string{{"status"}, {"kubectl", "get", "nodes"}, {"exec", "node-1", "--", "true"}, {"restart", "node-1/etcd"}} {
		cmd := New()
		cmd.SetArgs(args)
		if err := cmd.Execute(); !errors.Is(err, supervisor.ErrNotRunning) {
			t.Errorf("%v: error %v", args, err)
		}
	}
	cmd := New()
	cmd.SetArgs([]string{"restart", "etcd"})
	if err := cmd.Execute(); err == nil || !strings.Contains(err.Error(), "node-1/kubelet") {
		t.Errorf("error %v", err)
	}
}

func TestNodeLabels(t *testing.T) {
	plan := map[bool]string{true: "master", false: "worker"}
	for controlPlane, group := range plan {
		if got := nodeLabels(topology.Node{ControlPlane: controlPlane})["node.deckhouse.io/group"]; got != group {
			t.Errorf("control plane %t: group %q", controlPlane, got)
		}
	}
}
