// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// echo answers every connection with what it got, once it got all of it.
func echo(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				data, _ := io.ReadAll(conn)
				_, _ = conn.Write(append([]byte("got "), data...))
			}()
		}
	}()
	return l.Addr().String()
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func ask(t *testing.T, address, question string) string {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte(question)); err != nil {
		t.Fatal(err)
	}
	if err := conn.(*net.TCPConn).CloseWrite(); err != nil {
		t.Fatal(err)
	}
	answer, err := io.ReadAll(conn)
	if err != nil {
		t.Fatal(err)
	}
	return string(answer)
}

func TestForwardPassesBothDirectionsOn(t *testing.T) {
	for _, fromNodes := range []bool{false, true} {
		var inside atomic.Int32
		r := ForwardRequest{Listen: freeAddress(t), Target: echo(t), FromNodes: fromNodes}
		f, err := newForward(r, func(f func() error) error {
			inside.Add(1)
			return f()
		})
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if got := ask(t, r.Listen, "hello"); got != "got hello" {
				t.Errorf("from nodes %t: answer %q", fromNodes, got)
			}
		}
		f.close()
		// In the nodes' network is the one listener, or the target of each connection.
		want := int32(2)
		if fromNodes {
			want = 1
		}
		if got := inside.Load(); got != want {
			t.Errorf("from nodes %t: %d calls in the nodes' network, want %d", fromNodes, got, want)
		}
	}
}

func TestForwardToNobodyEndsTheConnection(t *testing.T) {
	r := ForwardRequest{Listen: freeAddress(t), Target: freeAddress(t)}
	f, err := newForward(r, here)
	if err != nil {
		t.Fatal(err)
	}
	defer f.close()
	conn, err := net.Dial("tcp", r.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Read(make([]byte, 1)); err == nil {
		t.Error("somebody answers")
	}
}

func TestForwardFromATakenPort(t *testing.T) {
	taken := echo(t)
	_, err := newForward(ForwardRequest{Listen: taken, Target: "10.77.0.1:6443"}, here)
	if err == nil || !strings.Contains(err.Error(), taken) || !strings.Contains(err.Error(), "SANDBOX_API") {
		t.Errorf("error %v", err)
	}
}
