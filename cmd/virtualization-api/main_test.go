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
	programtest.CheckChart(t, newCommand(), "../../templates/virtualization-api/deployment.yaml")
	if got := newCommand().Flags().Lookup("secure-port").DefValue; got != "8443" {
		t.Errorf("--secure-port is %s; a program without root's rights cannot have a port below 1024", got)
	}
}

const deadCluster = `{apiVersion: v1, kind: Config, current-context: c, contexts: [{name: c, context: {cluster: k}}],
  clusters: [{name: k, cluster: {server: "http://127.0.0.1:1"}}]}`

func TestWhatKeepsItFromStarting(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "tls.crt")
	for _, tc := range []struct {
		title, kubeconfig string
		args              []string
		want              string
	}{
		{"a kubeconfig that is none", "{", nil, "finding kube-apiserver"},
		{"a certificate that is not there", deadCluster, []string{"--tls-cert-file=" + missing, "--tls-private-key-file=" + missing}, "--tls-cert-file=" + missing},
		{"a port that is none", deadCluster, []string{"--secure-port=https"}, "secure-port"},
		{"wrong format", deadCluster, []string{"--log-format=xml"}, "--log-format=xml"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "kubeconfig")
			if err := os.WriteFile(path, []byte(tc.kubeconfig), 0o600); err != nil {
				t.Fatal(err)
			}
			t.Setenv("KUBECONFIG", path)
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
