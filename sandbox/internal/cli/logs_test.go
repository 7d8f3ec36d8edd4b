// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

func writeLog(t *testing.T, path, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestLogNamesLeaveOldPartsOut(t *testing.T) {
	dir := state.Dir(t.TempDir())
	for _, name := range []string{"supervisor.log", "node-1/kubelet.log", "node-1/kubelet-2030-01-02T03-04-05.678.log", "node-1/notes.txt", "host/deckhouse.log"} {
		writeLog(t, dir.Logs(name), "")
	}
	got, err := logNames(dir)
	if want := []string{"host/deckhouse", "node-1/kubelet", "supervisor"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("got %v, %v, want %v", got, err, want)
	}
}

func TestChooseLog(t *testing.T) {
	names := []string{"host/deckhouse", "node-1/kubelet", "node-2/kubelet", "supervisor"}
	tests := []struct{ wanted, want, problem string }{
		{wanted: "node-2/kubelet", want: "node-2/kubelet"},
		{wanted: "deckhouse", want: "host/deckhouse"},
		{wanted: "supervisor", want: "supervisor"},
		{wanted: "kubelet", problem: "name one of node-1/kubelet, node-2/kubelet"},
		{wanted: "etcd", problem: `no log "etcd"`},
		{wanted: "node-3/kubelet", problem: "sandbox logs"},
	}
	for _, tt := range tests {
		got, err := chooseLog(names, tt.wanted)
		if tt.problem != "" {
			if err == nil || !strings.Contains(err.Error(), tt.problem) {
				t.Errorf("%s: error %v, want one with %q", tt.wanted, err, tt.problem)
			}
		} else if err != nil || got != tt.want {
			t.Errorf("%s: got %q, %v", tt.wanted, got, err)
		}
	}
}

func TestPrintLog(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	writeLog(t, path, "one\ntwo\n")
	var out bytes.Buffer
	if err := printLog(context.Background(), &out, path, false); err != nil || out.String() != "one\ntwo\n" {
		t.Errorf("printed %q, %v", out.String(), err)
	}
	if err := printLog(context.Background(), &out, path+"-none", false); !os.IsNotExist(err) {
		t.Errorf("error %v", err)
	}
}

// syncBuffer may be read while it is written.
type syncBuffer struct {
	mu   sync.Mutex
	data bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.data.String()
}

func TestFollowedLogGoesOnInTheNextFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	writeLog(t, path, "one\n")
	out := &syncBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- printLog(ctx, out, path, true) }()
	wait := func(want string) {
		t.Helper()
		deadline := time.Now().Add(10 * time.Second)
		for out.String() != want {
			if time.Now().After(deadline) {
				t.Fatalf("printed %q, want %q", out.String(), want)
			}
			time.Sleep(time.Millisecond)
		}
	}
	wait("one\n")
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString("two\n"); err != nil {
		t.Fatal(err)
	}
	f.Close()
	wait("one\ntwo\n")
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * followInterval)
	writeLog(t, path, "three\n")
	wait("one\ntwo\nthree\n")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// What was written to a log just before it got full must not be skipped.
func TestFollowedLogIsReadToItsEnd(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.log")
	writeLog(t, path, "one\n")
	old, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer old.Close()
	out := &syncBuffer{}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- printLog(ctx, out, path, true) }()
	deadline := time.Now().Add(10 * time.Second)
	for out.String() != "one\n" && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	// All of this happens between two looks.
	if _, err := old.WriteString("last words\n"); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	writeLog(t, path, "two\n")
	for !strings.Contains(out.String(), "two\n") && time.Now().Before(deadline) {
		time.Sleep(time.Millisecond)
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
	if got := out.String(); got != "one\nlast words\ntwo\n" {
		t.Errorf("printed %q", got)
	}
}
