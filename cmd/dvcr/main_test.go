// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/program/programtest"
)

// The defaults are the contract with the chart.
func TestFlags(t *testing.T) {
	programtest.CheckChart(t, newCommand(), "../../templates/dvcr/deployment.yaml")
	flags := newCommand().Flags()
	for name, want := range map[string]string{
		"address":               ":5000",
		"root":                  "/var/lib/registry",
		"token-public-key-file": "/etc/dvcr/tokenPublicKey",
		"http-secret-file":      "/etc/dvcr/httpSecret",
		"gc-schedule":           "0 * * * *",
		"gc-grace-period":       "1h0m0s",
		"health-address":        ":8083",
		"metrics-address":       "127.0.0.1:5001",
		"log-level":             "info",
		"log-format":            "text",
	} {
		if flag := flags.Lookup(name); flag == nil || flag.DefValue != want {
			t.Errorf("--%s: got %+v, want %q", name, flag, want)
		}
	}
}

func TestBadCommandLines(t *testing.T) {
	missing := "--token-public-key-file=" + t.TempDir() + "/missing"
	for want, args := range map[string][]string{
		"unknown command": {"serve"},
		"--log-level":     {"--log-level=loud"},
		"public-key-file": {missing},
		"--gc-schedule":   {"--gc-schedule=often"},
	} {
		command := newCommand()
		command.SetArgs(args)
		if err := command.ExecuteContext(context.Background()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", args, err)
		}
	}
}
