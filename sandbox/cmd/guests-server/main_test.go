// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// get asks until somebody answers.
func get(t *testing.T, url string) *http.Response {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		response, err := http.Get(url)
		if err == nil {
			return response
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

func TestServesItsFolder(t *testing.T) {
	dir, address := t.TempDir(), freeAddress(t)
	if err := os.WriteFile(filepath.Join(dir, "tiny.qcow2"), []byte("disk"), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	command := newCommand()
	command.SetArgs([]string{"--address=" + address, "--dir=" + dir})
	done := make(chan error, 1)
	go func() { done <- command.ExecuteContext(ctx) }()
	response := get(t, "http://"+address+"/tiny.qcow2")
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil || string(body) != "disk" || response.Header.Get("Accept-Ranges") != "bytes" {
		t.Errorf("%s: %q, %v", response.Status, body, err)
	}
	cancel()
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
}

// A node that stops must not break off what can still be sent.
func TestTransferMayEnd(t *testing.T) {
	address := freeAddress(t)
	begun, goOn := make(chan struct{}), make(chan struct{})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- serve(ctx, address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			_, _ = io.WriteString(w, "first ")
			w.(http.Flusher).Flush()
			close(begun)
			<-goOn
			_, _ = io.WriteString(w, "last")
		}))
	}()
	response := get(t, "http://"+address)
	defer response.Body.Close()
	<-begun
	cancel()
	time.Sleep(50 * time.Millisecond)
	close(goOn)
	if body, err := io.ReadAll(response.Body); err != nil || string(body) != "first last" {
		t.Errorf("got %q, %v", body, err)
	}
	if err := <-done; err != nil {
		t.Errorf("ended with %v", err)
	}
}

func TestWhatCannotBeServed(t *testing.T) {
	taken, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{"--address=" + taken.Addr().String()}, "address already in use"},
		{[]string{"--address=nowhere"}, "missing port in address"},
		{[]string{"folder"}, `unknown command "folder"`},
	} {
		command := newCommand()
		command.SetArgs(tt.args)
		command.SetErr(&bytes.Buffer{})
		if err := command.ExecuteContext(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%v: got %v", tt.args, err)
		}
	}
}
