// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/program/programtest"
)

func TestFlags(t *testing.T) {
	programtest.CheckChart(t, newCommand(), "../../templates/vm-router/daemonset.yaml")
	// Pods of the host's network share ports with the node: only loopback is ours.
	for name, want := range map[string]string{"health-address": "127.0.0.1:4205", "metrics-address": "127.0.0.1:4206"} {
		if got := newCommand().Flags().Lookup(name).DefValue; got != want {
			t.Errorf("--%s is %s, want %s", name, got, want)
		}
	}
}

// onNode sets what the pod's template takes from the pod's own fields.
func onNode(t *testing.T) {
	t.Helper()
	for name, value := range map[string]string{"NODE_NAME": "node-1", "POD_NAMESPACE": "d8-virtualization", "POD_NAME": "vm-router-abcde"} {
		t.Setenv(name, value)
	}
}

func kubeconfig(t *testing.T, text string) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBECONFIG", path)
}

func TestWhatKeepsItFromStarting(t *testing.T) {
	for _, tc := range []struct {
		title string
		args  []string
		set   func(t *testing.T)
		want  string
	}{
		{"a range that is none", []string{"--virtual-machine-cidrs=10.66.10.0/24,10.66.300.0/24"}, onNode, "10.66.300.0/24"},
		{"no node", nil, func(t *testing.T) { t.Helper(); onNode(t); t.Setenv("NODE_NAME", "") }, "NODE_NAME, POD_NAMESPACE and POD_NAME"},
		{"no pod", nil, func(t *testing.T) { t.Helper(); onNode(t); t.Setenv("POD_NAME", "") }, "must be set from the pod's own fields"},
		{"wrong level", []string{"--log-level=loud"}, onNode, "--log-level=loud"},
		{"a kubeconfig that is none", nil, func(t *testing.T) { t.Helper(); onNode(t); kubeconfig(t, "{") }, "finding kube-apiserver"},
		{"an argument", []string{"now"}, onNode, "unknown command"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			tc.set(t)
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			defer cancel()
			command := newCommand()
			command.SetArgs(tc.args)
			command.SetErr(&bytes.Buffer{})
			command.SetOut(&bytes.Buffer{})
			if err := command.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want it to say %q", err, tc.want)
			}
		})
	}
}

// A taken port must end the program with the port's name in the error, not leave a
// node without routes and without a word.
func TestTakenPort(t *testing.T) {
	onNode(t)
	kubeconfig(t, `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k}}],
		clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]}`)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	command := newCommand()
	command.SetArgs([]string{"--health-address=256.0.0.1:1", "--metrics-address=0", "--log-level=error"})
	command.SetErr(&bytes.Buffer{})
	if err := command.ExecuteContext(ctx); err == nil || !strings.Contains(err.Error(), "256.0.0.1") {
		t.Errorf("got %v", err)
	}
}
