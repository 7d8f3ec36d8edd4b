// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// ownAccounts are the ServiceAccounts of the module's own programs; the engine's
// are not among them.
var ownAccounts = []string{"virtualization-controller", "virtualization-api", "vm-router", "dvcr"}

// auditEvent is what a test needs of a line of the API server's audit log. The
// sandbox logs neither Events nor leases of leader election, and reads of the module's
// own programs only.
type auditEvent struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		Namespace   string `json:"namespace"`
		Resource    string `json:"resource"`
		Name        string `json:"name"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
	RequestReceivedTimestamp metav1.MicroTime `json:"requestReceivedTimestamp"`
}

func (e auditEvent) String() string {
	text := e.Verb + " " + e.ObjectRef.Resource
	if e.ObjectRef.Subresource != "" {
		text += "/" + e.ObjectRef.Subresource
	}
	if e.ObjectRef.Name != "" {
		text += " " + e.ObjectRef.Name
	}
	if e.ResponseStatus.Code >= 300 {
		text += fmt.Sprintf(" (%d)", e.ResponseStatus.Code)
	}
	return text
}

// ours tells whether one of the module's programs asked for a write that may be
// for a machine of the namespace. What other namespaces hold is theirs; objects of
// the whole cluster, such as classes and leases of addresses, count always.
func (e auditEvent) ours(namespace string) bool {
	account, found := strings.CutPrefix(e.User.Username, "system:serviceaccount:"+moduleNamespace+":")
	if !found || !slices.Contains(ownAccounts, account) {
		return false
	}
	if !slices.Contains([]string{"create", "update", "patch", "delete", "deletecollection"}, e.Verb) {
		return false
	}
	// Questions have the form of objects, but nothing is stored.
	if slices.Contains([]string{"tokenreviews", "subjectaccessreviews"}, e.ObjectRef.Resource) {
		return false
	}
	return slices.Contains([]string{"", namespace, moduleNamespace}, e.ObjectRef.Namespace)
}

// ownWrites lists what the module's programs wrote for a namespace in a period,
// refused writes included: they cost as much.
func ownWrites(t *testing.T, namespace string, since, until time.Time) []string {
	t.Helper()
	state := os.Getenv("SANDBOX_STATE")
	if state == "" {
		t.Fatal("SANDBOX_STATE is not set: run these tests by 'make e2e'")
	}
	// The log is rotated: audit-<time>.log is older than audit.log.
	files, err := filepath.Glob(filepath.Join(state, "logs", "node-1", "audit*.log"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no audit log of the API server: %v", err)
	}
	slices.Sort(files)
	var writes []string
	for _, path := range files {
		for _, event := range readAuditLog(t, path) {
			at := event.RequestReceivedTimestamp.Time
			if event.ours(namespace) && !at.Before(since) && at.Before(until) {
				writes = append(writes, event.String())
			}
		}
	}
	return writes
}

func readAuditLog(t *testing.T, path string) []auditEvent {
	t.Helper()
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var events []auditEvent
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			// The last line may be only half written yet.
			t.Logf("%s: %v", path, err)
			continue
		}
		events = append(events, event)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return events
}

// waitQuiet waits until our programs have written nothing for the namespace for a
// while, so that what comes next has one cause.
func waitQuiet(ctx context.Context, t *testing.T, namespace string, quiet time.Duration) {
	t.Helper()
	for {
		now := time.Now()
		last := ownWrites(t, namespace, now.Add(-quiet), now)
		if len(last) == 0 {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("the module goes on writing: %q", last)
		case <-time.After(time.Second):
		}
	}
}

// upToRunning leaves out what came after the last write of the machine's status,
// the one that says Running: the disk tells of its user while this test still looks.
func upToRunning(writes []string) []string {
	for i := len(writes) - 1; i >= 0; i-- {
		if strings.HasPrefix(writes[i], "patch virtualmachines/status ") {
			return writes[:i+1]
		}
	}
	return writes
}

// TestWritesOfAMachine counts what it costs the API server to get a machine
// running, in our own writes of every kind: the machine, its address and lease, its
// disk, its class. KubeVirt's are about twelve more.
func TestWritesOfAMachine(t *testing.T) {
	ctx := deadline(t, 5*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root"))
	waitQuiet(ctx, t, namespace, 5*time.Second)
	since := time.Now()
	m := machine(ctx, t, namespace, "web", "root")
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	running := time.Now()
	// What was written in answer to the guest's start is in the log a moment later.
	time.Sleep(2 * time.Second)

	writes := upToRunning(ownWrites(t, namespace, since, running))
	t.Logf("running after %s, %d writes: %q", running.Sub(since).Round(100*time.Millisecond), len(writes), writes)
	allowed := 5
	if running.Sub(since) > 10*time.Second {
		allowed++ // A start that takes its time is told.
	}
	// A cache that is behind may have something made twice; the server refuses the
	// second and nothing is written.
	stored := slices.DeleteFunc(writes, func(write string) bool { return strings.HasSuffix(write, " (409)") })
	if len(stored) > allowed {
		t.Errorf("%d writes, at most %d are allowed", len(stored), allowed)
	}
	settled := time.Now()
	time.Sleep(10 * time.Second)
	if idle := ownWrites(t, namespace, settled, time.Now()); len(idle) > 1 {
		// One is the agent's or the address's late news.
		t.Errorf("a running machine still causes writes: %q", idle)
	}
	remove(ctx, t, m)
	waitGone(ctx, t, m)
}
