// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func kubeconfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWrongFlagsAreNamed(t *testing.T) {
	for _, tt := range []struct{ name, kubeconfig, node, want string }{
		{"no node", kubeconfig(t, ""), "", "--node is required"},
		{"no such file", filepath.Join(t.TempDir(), "none"), "node-1", "--kubeconfig: stat "},
		{"not a kubeconfig", kubeconfig(t, "just a text"), "node-1", "--kubeconfig: error loading config file"},
		{"no cluster in it", kubeconfig(t, "{apiVersion: v1, kind: Config}"), "node-1", "--kubeconfig: invalid configuration"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if err := run(t.Context(), tt.kubeconfig, tt.node); err == nil || !strings.HasPrefix(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

// A node boots before its API server: the agent has to wait for that, and to end
// with the node.
func TestWaitsForTheAPIServerUntilItIsEnded(t *testing.T) {
	path := kubeconfig(t, `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k}}],
		clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]}`)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- run(ctx, path, "node-1") }()
	select {
	case err := <-done:
		t.Fatalf("gave up with %v", err)
	case <-time.After(200 * time.Millisecond):
	}
	cancel()
	select {
	case err := <-done:
		if err != nil {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("does not end with its context")
	}
}
