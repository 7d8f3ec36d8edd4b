// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"bufio"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/deckhouse/virtualization/api/v1alpha2"
)

// auditEvent is what a test needs of a line of the API server's audit log.
type auditEvent struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	ObjectRef struct {
		Namespace   string `json:"namespace"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
	} `json:"objectRef"`
	RequestReceivedTimestamp metav1.MicroTime `json:"requestReceivedTimestamp"`
}

// ownWrites lists what the module's controller wrote since a time, into the
// namespace or, for leases, into the cluster.
func ownWrites(t *testing.T, namespace string, since time.Time) []string {
	t.Helper()
	state := os.Getenv("SANDBOX_STATE")
	if state == "" {
		t.Fatal("SANDBOX_STATE is not set: run these tests by 'make e2e'")
	}
	file, err := os.Open(filepath.Join(state, "logs", "node-1", "audit.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = file.Close() }()
	var writes []string
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var event auditEvent
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			t.Fatal(err)
		}
		ref := event.ObjectRef
		if event.User.Username != "system:serviceaccount:"+moduleNamespace+":virtualization-controller" ||
			!slices.Contains([]string{"create", "update", "patch", "delete"}, event.Verb) ||
			event.RequestReceivedTimestamp.Time.Before(since) ||
			(ref.Namespace != namespace && ref.Resource != "virtualmachineipaddressleases") {
			continue
		}
		writes = append(writes, event.Verb+" "+ref.Resource+" "+ref.Subresource)
	}
	if err := lines.Err(); err != nil {
		t.Fatal(err)
	}
	return writes
}

// TestWritesOfAMachine counts what it costs the API server to get a machine
// running, in our own writes; KubeVirt's are about twelve more.
func TestWritesOfAMachine(t *testing.T) {
	ctx := deadline(t, 4*time.Minute)
	namespace := newNamespace(t)
	image(ctx, t, namespace, "tiny", "tiny.qcow2")
	waitReady(ctx, t, diskOfTiny(ctx, t, namespace, "root"))
	since := time.Now()
	m := machine(ctx, t, namespace, "web", "root")
	waitPhase(ctx, t, m, v1alpha2.MachineRunning)
	running := time.Since(since)

	writes := slices.DeleteFunc(ownWrites(t, namespace, since), func(write string) bool {
		// The disk's own news that it is in use is the disk's, not the machine's.
		return write == "patch virtualdisks status"
	})
	t.Logf("running after %s, %d writes: %q", running.Round(100*time.Millisecond), len(writes), writes)
	if len(writes) > 8 {
		t.Errorf("%d writes, at most 8 are allowed", len(writes))
	}
	settled := time.Now()
	time.Sleep(10 * time.Second)
	if idle := ownWrites(t, namespace, settled); len(idle) > 1 {
		// One is the agent's or the address's late news.
		t.Errorf("a running machine still causes writes: %q", idle)
	}
	remove(ctx, t, m)
	waitGone(ctx, t, m)
}
