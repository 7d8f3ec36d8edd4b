// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"crypto/tls"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gorilla/websocket"
)

// insecureTLS accepts the self-signed certificate of a server under test.
func insecureTLS() *tls.Config {
	return &tls.Config{InsecureSkipVerify: true} //nolint:gosec // a test server on loopback
}

// legs makes two websocket connections; the near ends go to the relay, the far
// ends to the test.
func legs(t *testing.T) (near, far [2]*websocket.Conn) {
	t.Helper()
	for i := range near {
		accepted := make(chan *websocket.Conn, 1)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			upgrader := websocket.Upgrader{}
			conn, err := upgrader.Upgrade(w, r, nil)
			if err != nil {
				t.Error(err)
				return
			}
			accepted <- conn
		}))
		t.Cleanup(server.Close)
		conn, _, err := websocket.DefaultDialer.Dial("ws"+strings.TrimPrefix(server.URL, "http"), nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		near[i], far[i] = <-accepted, conn
	}
	return near, far
}

func TestRelayEndsWhenALegVanishes(t *testing.T) {
	near, far := legs(t)
	done := make(chan struct{})
	go func() {
		// The far ends never answer pings, because nothing reads them.
		relay{pingInterval: 10 * time.Millisecond, pongTimeout: 100 * time.Millisecond}.run(context.Background(), near[0], near[1])
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(10 * time.Second):
		t.Fatal("the relay holds on to dead connections")
	}
	if _, _, err := far[0].ReadMessage(); err == nil {
		t.Error("a leg was left open")
	}
}

func TestRelayKeepsAnIdleStreamOpen(t *testing.T) {
	near, far := legs(t)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		relay{pingInterval: 20 * time.Millisecond, pongTimeout: 2 * time.Second}.run(ctx, near[0], near[1])
		close(done)
	}()
	pings := make(chan struct{}, 100)
	far[0].SetPingHandler(func(data string) error {
		select {
		case pings <- struct{}{}:
		default:
		}
		return far[0].WriteControl(websocket.PongMessage, []byte(data), time.Now().Add(time.Second))
	})
	go func() {
		for {
			if _, _, err := far[0].ReadMessage(); err != nil {
				return
			}
		}
	}()
	for range 5 {
		<-pings
	}
	if err := far[0].WriteMessage(websocket.TextMessage, []byte("still here")); err != nil {
		t.Fatal(err)
	}
	kind, data, err := far[1].ReadMessage()
	if err != nil || kind != websocket.TextMessage || string(data) != "still here" {
		t.Errorf("got kind %d, %q, %v", kind, data, err)
	}
	cancel()
	<-done
}

func TestCloseCode(t *testing.T) {
	cases := []struct {
		name string
		err  error
		code int
		text string
	}{
		{"normal", &websocket.CloseError{Code: 1000}, 1000, ""},
		{"taken over", &websocket.CloseError{Code: 1001, Text: "taken over"}, 1001, "taken over"},
		{"no status must not be sent on", &websocket.CloseError{Code: 1005}, 1000, ""},
		{"abnormal must not be sent on", &websocket.CloseError{Code: 1006}, 1001, "the other side went away"},
		{"connection lost", errors.New("reset"), 1001, "the other side went away"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if code, text := closeCode(tc.err); code != tc.code || text != tc.text {
				t.Errorf("got %d %q, want %d %q", code, text, tc.code, tc.text)
			}
		})
	}
}
