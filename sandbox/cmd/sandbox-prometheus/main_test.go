// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// script is a server that notes its arguments and each order to read its configuration.
func script(t *testing.T, body string) (program, log string) {
	t.Helper()
	dir := t.TempDir()
	program, log = filepath.Join(dir, "server"), filepath.Join(dir, "log")
	text := "#!/bin/sh\necho \"$*\" >> " + log + "\n" + body + "\n"
	if err := os.WriteFile(program, []byte(text), 0o755); err != nil {
		t.Fatal(err)
	}
	return program, log
}

// await waits until the log says something.
func await(t *testing.T, log, want string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if text, err := os.ReadFile(log); err == nil && strings.Contains(string(text), want) {
			return
		}
	}
	t.Fatalf("the server never noted %q", want)
}

func TestServerIsStartedOnceAndThenReadsAgain(t *testing.T) {
	dir := t.TempDir()
	program, log := script(t, "trap 'echo again >> "+dir+"/again' HUP\ntrap 'exit 0' TERM\necho ready >> "+dir+"/ready\nwhile :; do sleep 0.05; done")
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	s := newServer([]string{program, "--flag"}, cancel)
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	await(t, filepath.Join(dir, "ready"), "ready")
	if err := s.reload(); err != nil {
		t.Fatal(err)
	}
	await(t, filepath.Join(dir, "again"), "again")
	if text, err := os.ReadFile(log); err != nil || string(text) != "--flag\n" {
		t.Errorf("it was started with %q, %v", text, err)
	}
	if ctx.Err() != nil {
		t.Errorf("ended: %v", context.Cause(ctx))
	}
	if err := s.stop(); err != nil {
		t.Error(err)
	}
}

func TestServerThatEndsEndsAll(t *testing.T) {
	for name, tc := range map[string]struct{ body, want string }{
		"with an error": {"exit 3", "exit status 3"},
		"without one":   {"exit 0", "nobody told it to"},
	} {
		t.Run(name, func(t *testing.T) {
			program, _ := script(t, tc.body)
			ctx, cancel := context.WithCancelCause(t.Context())
			s := newServer([]string{program}, cancel)
			if err := s.reload(); err != nil {
				t.Fatal(err)
			}
			<-ctx.Done()
			if err := context.Cause(ctx); !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
			if err := s.stop(); err != nil {
				t.Errorf("stopping what has ended: %v", err)
			}
		})
	}
}

func TestServerThatIsNotThere(t *testing.T) {
	s := newServer([]string{filepath.Join(t.TempDir(), "none")}, nil)
	if err := s.reload(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
	if err := s.stop(); err != nil {
		t.Errorf("stopping what was never started: %v", err)
	}
}

func TestCommandNeedsAServer(t *testing.T) {
	command := newCommand()
	command.SetArgs(nil)
	command.SilenceErrors = true
	if err := command.Execute(); err == nil || !strings.Contains(err.Error(), "at least 1 arg") {
		t.Errorf("got %v", err)
	}
}
