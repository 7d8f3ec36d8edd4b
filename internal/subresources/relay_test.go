// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"bytes"
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

// impatient cuts what is silent after half a second, in which a busy machine gives everybody
// a turn.
var impatient = relay{pingInterval: 10 * time.Millisecond, pongTimeout: 500 * time.Millisecond, stallTimeout: 30 * time.Second}

// asItEnded hands the end of the engine's leg on to the client.
func asItEnded(err error) ending {
	code, text := closeCode(err)
	return ending{code, text}
}

// joined relays between two legs; the channel closes when that has ended.
func joined(t *testing.T, r relay, explain func(error) ending) (client, engine *websocket.Conn, done chan struct{}) {
	t.Helper()
	near, far := legs(t)
	done = make(chan struct{})
	go func() {
		defer close(done)
		r.run(context.Background(), near[0], near[1], explain)
	}()
	return far[0], far[1], done
}

func TestRelayEndsWhenALegVanishes(t *testing.T) {
	near, far := legs(t)
	done := make(chan struct{})
	go func() {
		// The far ends never answer pings, because nothing reads them.
		impatient.run(context.Background(), near[0], near[1], asItEnded)
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
		relay{pingInterval: 20 * time.Millisecond, pongTimeout: 2 * time.Second, stallTimeout: time.Minute}.run(ctx, near[0], near[1], asItEnded)
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
		{"abnormal must not be sent on", &websocket.CloseError{Code: 1006}, 1011, "the connection was lost"},
		{"connection lost", errors.New("reset"), 1011, "the connection was lost"},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			if code, text := closeCode(tc.err); code != tc.code || text != tc.text {
				t.Errorf("got %d %q, want %d %q", code, text, tc.code, tc.text)
			}
		})
	}
}

// Messages pass whole and in order, however large, and in both directions.
func TestRelayPassesLargeMessages(t *testing.T) {
	client, engine, done := joined(t, relay{pingInterval: time.Minute, pongTimeout: time.Minute, stallTimeout: time.Minute}, asItEnded)
	large := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
	for i, way := range [][2]*websocket.Conn{{client, engine}, {engine, client}} {
		for _, sent := range []struct {
			kind int
			data []byte
		}{{websocket.BinaryMessage, large}, {websocket.TextMessage, []byte("after it")}, {websocket.BinaryMessage, nil}} {
			if err := way[0].WriteMessage(sent.kind, sent.data); err != nil {
				t.Fatal(err)
			}
			kind, data, err := way[1].ReadMessage()
			if err != nil || kind != sent.kind || !bytes.Equal(data, sent.data) {
				t.Fatalf("way %d: %d bytes of kind %d, %v; want %d bytes", i, len(data), kind, err, len(sent.data))
			}
		}
	}
	if err := client.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(4000, "bye"), time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, _, err := engine.ReadMessage(); !websocket.IsCloseError(err, 4000) {
		t.Errorf("the other leg ended with %v", err)
	}
	<-done
}

// People stop a console's output to read it. That is no dead connection, though its
// pings are not answered either.
func TestRelayWaitsForAReaderThatIsSlow(t *testing.T) {
	client, engine, done := joined(t, impatient, asItEnded)
	const messages = 400
	sent := make(chan error, 1)
	go func() {
		answerPings(engine)
		for range messages {
			if err := engine.WriteMessage(websocket.BinaryMessage, make([]byte, 64<<10)); err != nil {
				sent <- err
				return
			}
		}
		sent <- nil
	}()
	select {
	case <-done:
		t.Fatal("the relay gave a slow reader up")
	case <-time.After(2 * impatient.pongTimeout):
	}
	for range messages {
		if _, _, err := client.ReadMessage(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-sent; err != nil {
		t.Fatal(err)
	}
	_ = client.Close()
	<-done
}

// answerPings reads, which is what answers pings, until the connection ends. An answer has
// its time to wait behind what is taken slowly: without it the library gives it a second,
// and then the connection up.
func answerPings(conn *websocket.Conn) {
	conn.SetPingHandler(func(count string) error {
		return conn.WriteControl(websocket.PongMessage, []byte(count), time.Now().Add(time.Minute))
	})
	go func() {
		for {
			if _, _, err := conn.ReadMessage(); err != nil {
				return
			}
		}
	}()
}

func TestRelayGivesUpAReaderThatStalls(t *testing.T) {
	stalls := impatient
	stalls.stallTimeout = 300 * time.Millisecond
	_, engine, done := joined(t, stalls, asItEnded)
	answerPings(engine)
	for engine.WriteMessage(websocket.BinaryMessage, make([]byte, 64<<10)) == nil {
		select {
		case <-done:
			return
		default:
		}
	}
	<-done
}

func TestRelayRefusesWhatIsNoMessage(t *testing.T) {
	for _, test := range []struct {
		title string
		send  func(*websocket.Conn) error
		code  int
	}{
		{"too big a message", func(c *websocket.Conn) error {
			return c.WriteMessage(websocket.BinaryMessage, make([]byte, maxMessage+1))
		}, 1009},
		{"a frame that claims to be of 8 EiB", func(c *websocket.Conn) error {
			return raw(c, 0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4)
		}, 1009},
		{"an unknown kind of frame", func(c *websocket.Conn) error { return raw(c, 0x83, 0x80, 1, 2, 3, 4) }, 1002},
		{"a frame without a mask", func(c *websocket.Conn) error { return raw(c, 0x82, 0x01, 'x') }, 1002},
		{"a ping that is too long", func(c *websocket.Conn) error { return raw(c, 0x89, 0xfe, 0, 200, 1, 2, 3, 4) }, 1002},
	} {
		t.Run(test.title, func(t *testing.T) {
			client, engine, done := joined(t, patience, asItEnded)
			sent := make(chan error, 1)
			go func() { sent <- test.send(client) }()
			engineEnds := make(chan error, 1)
			go func() {
				for {
					if _, _, err := engine.ReadMessage(); err != nil {
						engineEnds <- err
						return
					}
				}
			}()
			if _, _, err := client.ReadMessage(); !websocket.IsCloseError(err, test.code) {
				t.Errorf("the client is told %v, want %d", err, test.code)
			}
			_ = client.Close()
			if err := <-engineEnds; !websocket.IsCloseError(err, websocket.CloseInternalServerErr) {
				t.Errorf("the engine is told %v", err)
			}
			<-sent
			<-done
		})
	}
}

func raw(c *websocket.Conn, frame ...byte) error {
	_, err := c.NetConn().Write(frame)
	return err
}

func TestTheClientIsToldWhy(t *testing.T) {
	client, engine, done := joined(t, patience, func(error) ending { return ending{1001, "taken over by bob"} })
	// KubeVirt cuts the console of the one before without a close frame.
	_ = engine.NetConn().Close()
	if _, _, err := client.ReadMessage(); !websocket.IsCloseError(err, 1001) || !strings.Contains(err.Error(), "taken over by bob") {
		t.Errorf("got %v", err)
	}
	<-done
}
