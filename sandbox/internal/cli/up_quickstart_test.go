// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// fakeClient is a program in the place of d8v.
func fakeClient(t *testing.T, script string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "d8v")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+script), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestWaitForConsolePressesEnter(t *testing.T) {
	client := fakeClient(t, `[ "$*" = "console --namespace quickstart hello" ] || exit 1
[ "$KUBECONFIG" = /state/kubeconfig ] || exit 1
read -r key && echo "hello login: "; exec sleep 60`)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := waitForConsole(ctx, client, "/state/kubeconfig"); err != nil {
		t.Error(err)
	}
}

func TestWaitForConsoleShowsWhatTheGuestShowed(t *testing.T) {
	client := fakeClient(t, `echo "Kernel panic"; exec sleep 60`)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err := waitForConsole(ctx, client, "/state/kubeconfig")
	if err == nil || !strings.Contains(err.Error(), `never showed "login:"`) || !strings.Contains(err.Error(), "Kernel panic") {
		t.Errorf("got %v", err)
	}
}

// A client that comes too early ends; waiting on for it would be for nothing.
func TestWaitForConsoleStartsAClientThatEndedAgain(t *testing.T) {
	mark := filepath.Join(t.TempDir(), "mark")
	client := fakeClient(t, `if [ ! -e `+mark+` ]; then touch `+mark+`; echo "hello: not running yet" >&2; exit 1; fi
echo "hello login: "; exec sleep 60`)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	began := time.Now()
	if err := waitForConsole(ctx, client, "/state/kubeconfig"); err != nil {
		t.Error(err)
	}
	if took := time.Since(began); took > 20*time.Second {
		t.Errorf("took %s", took)
	}
}

func TestWaitForConsoleSaysWhyTheClientEnded(t *testing.T) {
	client := fakeClient(t, `echo "error: machine hello is not known" >&2; exit 1`)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	err := waitForConsole(ctx, client, "/state/kubeconfig")
	if err == nil || !strings.Contains(err.Error(), "machine hello is not known") {
		t.Errorf("got %v", err)
	}
}

func TestWaitForConsoleWithoutAClient(t *testing.T) {
	if err := waitForConsole(t.Context(), filepath.Join(t.TempDir(), "d8v"), ""); !os.IsNotExist(err) {
		t.Errorf("got %v", err)
	}
}

func TestWelcomeSaysHowToUpload(t *testing.T) {
	out := &lockedBuffer{}
	if err := sayWelcome(t.Context(), &session{out: out, state: "/var/lib/sandbox", client8v: "/cache/d8v"}); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"export KUBECONFIG=/var/lib/sandbox/kubeconfig", "/cache/d8v console -n quickstart hello",
		"curl --cacert /var/lib/sandbox/pki/ca.crt --connect-to ::127.0.0.1:16444 -T FILE URL",
	} {
		if !out.contains(want) {
			t.Errorf("%q is not in %s", want, out.tail())
		}
	}
}

func TestLockedBufferKeepsTheTailForErrors(t *testing.T) {
	b := &lockedBuffer{}
	if _, err := b.Write([]byte(strings.Repeat("a", 1000) + "the end")); err != nil {
		t.Fatal(err)
	}
	if tail := b.tail(); len(tail) != 500 || !strings.HasSuffix(tail, "the end") {
		t.Errorf("got %d bytes, %q", len(tail), tail)
	}
	if !b.contains("the end") || b.contains("nothing") {
		t.Error("it does not find what was written")
	}
}
