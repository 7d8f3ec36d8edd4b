// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/rest"
)

// expectedErrors are what our programs may log as an error although nothing is
// wrong with them. Each needs a reason.
var expectedErrors = []struct{ text, because string }{
	{"leader election lost", "a test kills the controller, and the one that is told to end says so"},
	{"Failed to update lock optimistically", "the API server was slow to answer; it is asked again, and a lease that is lost ends the program, which counts"},
	{"Failed to update lock: Operation cannot be fulfilled on leases", "two replicas ask for the lease at the same time, and one of them gets it"},
	{"connection refused", "a test kills the registry or the API's peers"},
	{"tls: private key does not match public key", "kubelet replaces a certificate and its key while they are read one after the other; they are read again at once"},
	{"context canceled", "what was going on when a program was told to end"},
}

// logGate reads what our programs log while the tests run, and notices when one of
// them is restarted by its node.
type logGate struct {
	mu       sync.Mutex
	client   kubernetes.Interface
	followed map[string]bool
	restarts map[string]int32
}

func (g *logGate) prepare(config *rest.Config) (err error) {
	g.followed, g.restarts = map[string]bool{}, map[string]int32{}
	g.client, err = kubernetes.NewForConfig(config)
	return err
}

// see follows the log of each run of each container of our programs.
func (g *logGate) see(ctx context.Context, pod *corev1.Pod, faults *invariants) {
	if !slices.Contains(ownAccounts, pod.Labels["app"]) {
		return
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, status := range pod.Status.ContainerStatuses {
		container := string(pod.UID) + "/" + status.Name
		if before, known := g.restarts[container]; known && status.RestartCount > before {
			faults.report(fmt.Sprintf("%s of pod %s was restarted: %s", status.Name, pod.Name, lastEnd(status)))
		}
		g.restarts[container] = status.RestartCount
		run := fmt.Sprintf("%s/%d", container, status.RestartCount)
		if status.State.Running == nil || g.followed[run] {
			continue
		}
		g.followed[run] = true
		go g.follow(ctx, pod.Name, status.Name, faults)
	}
}

func lastEnd(status corev1.ContainerStatus) string {
	end := status.LastTerminationState.Terminated
	if end == nil {
		return "it does not say why"
	}
	return fmt.Sprintf("%s, exit code %d: %s", end.Reason, end.ExitCode, end.Message)
}

// follow reads until the container ends or the tests do.
func (g *logGate) follow(ctx context.Context, pod, container string, faults *invariants) {
	since := metav1.NewTime(faults.begun)
	stream, err := g.client.CoreV1().Pods(moduleNamespace).
		GetLogs(pod, &corev1.PodLogOptions{Container: container, Follow: true, SinceTime: &since}).Stream(ctx)
	if err != nil {
		// It may have been killed before it was asked.
		return
	}
	defer func() { _ = stream.Close() }()
	readErrors(stream, func(line string) {
		if !g.outlived(ctx, pod, line) {
			faults.report(fmt.Sprintf("pod %s logs: %s", pod, line))
		}
	})
}

// outlived tells that a process is refused because its pod is gone: a test deletes the
// pod at once, and its token ends with it, before the process does.
func (g *logGate) outlived(ctx context.Context, pod, line string) bool {
	if !strings.Contains(line, ": Unauthorized") {
		return false
	}
	_, err := g.client.CoreV1().Pods(moduleNamespace).Get(ctx, pod, metav1.GetOptions{})
	return apierrors.IsNotFound(err)
}

// readErrors tells of each unexpected error in a log as soon as it is there.
func readErrors(log io.Reader, tell func(string)) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if line := lines.Text(); isError(line) && !isExpected(line) {
			tell(line)
		}
	}
}

// TestGateOnLogs tries which lines are errors.
func TestGateOnLogs(t *testing.T) {
	log := strings.Join([]string{
		`time=2026-03-01T12:00:00.000Z level=INFO msg="level of an ERROR is not one"`,
		`time=2026-03-01T12:00:00.000Z level=ERROR msg="Reconciler error" err="no such field"`,
		`{"time":"2026-03-01T12:00:00Z","level":"ERROR","msg":"in JSON"}`,
		`time=2026-03-01T12:00:00.000Z level=ERROR msg="problem running manager" err="leader election lost"`,
		`E1122 19:16:10.282043       1 reflector.go:205] "Unhandled Error"`,
		`panic: runtime error`,
	}, "\n")
	var told []string
	readErrors(strings.NewReader(log), func(line string) { told = append(told, line) })
	if len(told) != 4 || !strings.Contains(told[0], "no such field") || !strings.Contains(told[3], "panic") {
		t.Errorf("%d lines are errors: %q", len(told), told)
	}
}

// TestGateOnRefusals: only a process whose pod is gone may be refused.
func TestGateOnRefusals(t *testing.T) {
	there := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: moduleNamespace, Name: "there"}}
	gate := &logGate{client: fake.NewClientset(there)}
	const refused = `level=ERROR msg="Reconciler error" err="writing the checkpoint: Unauthorized"`
	for _, tc := range []struct {
		pod, line string
		want      bool
	}{
		{"gone", refused, true},
		{"there", refused, false},
		{"gone", `level=ERROR msg="Reconciler error" err="no such field"`, false},
	} {
		if got := gate.outlived(t.Context(), tc.pod, tc.line); got != tc.want {
			t.Errorf("pod %s, %s: %t", tc.pod, tc.line, got)
		}
	}
}

func isError(line string) bool {
	return strings.Contains(line, "level=ERROR") || strings.Contains(line, `"level":"ERROR"`) ||
		strings.HasPrefix(line, "panic:") || strings.HasPrefix(line, "E1") || strings.HasPrefix(line, "E0")
}

func isExpected(line string) bool {
	for _, expected := range expectedErrors {
		if strings.Contains(line, expected.text) {
			return true
		}
	}
	return false
}

// report notes a fault that belongs to no namespace.
func (i *invariants) report(text string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.resting {
		return
	}
	i.faults = append(i.faults, fault{text: time.Now().UTC().Format(time.TimeOnly) + " " + text})
}
