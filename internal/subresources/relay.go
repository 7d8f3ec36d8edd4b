// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"errors"
	"io"
	"strconv"
	"sync"
	"time"

	"github.com/gorilla/websocket"
	"k8s.io/klog/v2"
)

const (
	// closeWait bounds the end of a stream: sending the close frame, and waiting for
	// the other side's.
	closeWait = 2 * time.Second
	// maxMessage bounds what a client may send at once, in bytes. Clients copy by
	// kilobytes; nobody behind this server has to hold more in memory.
	maxMessage = 4 << 20
)

// relay joins two websockets. Both legs are pinged: an idle console would be cut
// by any load balancer on the way, and a leg that vanished without a word would
// hold its connection for ever.
type relay struct {
	pingInterval time.Duration
	// pongTimeout is how long a leg may be silent that has read all that was sent.
	pongTimeout time.Duration
	// stallTimeout is how long a leg may leave what is sent to it unread. It answers no
	// ping meanwhile, which waits behind the rest. It is far longer than pongTimeout: a
	// download through a port may be paused.
	stallTimeout time.Duration
}

// leg is one websocket, with what is known of its other end.
type leg struct {
	*websocket.Conn
	relay

	mu sync.Mutex
	// sent counts writes; acknowledged is the count that the last answered ping had.
	sent, acknowledged int
}

func (r relay) leg(conn *websocket.Conn) *leg {
	l := &leg{Conn: conn, relay: r}
	conn.SetPongHandler(func(count string) error {
		// A pong that nobody has asked for is a sign of life, too.
		n, err := strconv.Atoi(count)
		l.note(func() {
			if err == nil {
				l.acknowledged = n
			}
		})
		return nil
	})
	return l
}

// note changes what is known, and gives the other end its time from now on.
func (l *leg) note(change func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	change()
	limit := l.pongTimeout
	if l.sent != l.acknowledged {
		limit = l.stallTimeout
	}
	_ = l.SetReadDeadline(time.Now().Add(limit))
}

// heard notes that the other end is there.
func (l *leg) heard() { l.note(func() {}) }

// write bounds a write, and notes that something is to be read.
func (l *leg) write(f func() error) error {
	_ = l.SetWriteDeadline(time.Now().Add(l.stallTimeout))
	l.note(func() { l.sent++ })
	return f()
}

// ping asks whether the other end is there, and has read what was sent so far. It has
// to wait behind a message that is being taken slowly, so it has as much time as that.
func (l *leg) ping() error {
	l.mu.Lock()
	count := strconv.Itoa(l.sent)
	l.mu.Unlock()
	return l.WriteControl(websocket.PingMessage, []byte(count), time.Now().Add(l.stallTimeout))
}

// ending is how a stream ends for the client.
type ending struct {
	code int
	text string
}

// legError tells which leg failed.
type legError struct {
	leg *leg
	err error
}

// run copies until either leg ends or ctx is done, then closes both. The engine is
// told how the client left. The client is told what explain makes of the end of the
// engine's leg, or of the cause of ctx's end. It returns when no goroutine of it is
// left.
func (r relay) run(ctx context.Context, clientConn, engineConn *websocket.Conn, explain func(error) ending) {
	clientConn.SetReadLimit(maxMessage)
	client, engine := r.leg(clientConn), r.leg(engineConn)
	pinging, stopPinging := context.WithCancel(ctx)
	ended := make(chan legError, 4)
	start := func(f func() legError) chan struct{} {
		done := make(chan struct{})
		go func() {
			defer close(done)
			ended <- f()
		}()
		return done
	}
	fromClient := start(func() legError { return copyMessages(engine, client) })
	fromEngine := start(func() legError { return copyMessages(client, engine) })
	pings := []chan struct{}{
		start(func() legError { return client.keepAlive(pinging) }),
		start(func() legError { return engine.keepAlive(pinging) }),
	}
	var first legError
	select {
	case first = <-ended:
	case <-ctx.Done():
		first = legError{leg: engine, err: context.Cause(ctx)}
	}
	stopPinging()
	klog.FromContext(ctx).V(2).Info("stream ended", "byClient", first.leg == client, "reason", first.err)
	if first.leg == client {
		code, text := closeCode(first.err)
		hangUp(engine, ending{code, text}, fromEngine)
		if errors.Is(first.err, websocket.ErrReadLimit) {
			// The client was told that its message is too big. It reads that once it
			// has got rid of the message.
			_ = client.NetConn().SetReadDeadline(time.Now().Add(closeWait))
			_, _ = io.CopyBuffer(io.Discard, client.NetConn(), make([]byte, 32<<10))
		}
	} else {
		hangUp(client, explain(first.err), fromClient)
	}
	// Closing ends what the copies and the pings wait in.
	_ = client.Close()
	_ = engine.Close()
	for _, done := range append(pings, fromClient, fromEngine) {
		<-done
	}
}

// hangUp sends the close frame and waits for the answer, which ends the reader of the
// leg. A connection that is cut at once can lose the frame on its way.
func hangUp(to *leg, how ending, reader <-chan struct{}) {
	if to.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(how.code, how.text), time.Now().Add(closeWait)) != nil {
		return
	}
	timer := time.NewTimer(closeWait)
	defer timer.Stop()
	select {
	case <-reader:
	case <-timer.C:
	}
}

// copyMessages moves messages from one leg to the other until one fails. The time of
// the one that is read from begins anew before each read: while a message waits to be
// taken by the other, nothing is read here, pongs neither.
func copyMessages(to, from *leg) legError {
	buffer := make([]byte, 32<<10)
	for {
		from.heard()
		kind, reader, err := from.NextReader()
		if err != nil {
			return legError{from, err}
		}
		message, err := to.NextWriter(kind)
		if err != nil {
			return legError{to, err}
		}
		writer := &legWriter{leg: to, message: message}
		if _, err := io.CopyBuffer(writer, legReader{from, reader}, buffer); err != nil {
			if writer.err != nil {
				return legError{to, writer.err}
			}
			return legError{from, err}
		}
		if err := to.write(message.Close); err != nil {
			return legError{to, err}
		}
	}
}

// legReader reads a message; each read has its full time.
type legReader struct {
	leg     *leg
	message io.Reader
}

// Read implements io.Reader.
func (r legReader) Read(p []byte) (int, error) {
	r.leg.heard()
	return r.message.Read(p)
}

// legWriter writes a message, and remembers that it was the writing that failed.
type legWriter struct {
	leg     *leg
	message io.Writer
	err     error
}

// Write implements io.Writer.
func (w *legWriter) Write(p []byte) (n int, err error) {
	w.err = w.leg.write(func() error {
		n, err = w.message.Write(p)
		return err
	})
	return n, err
}

// keepAlive pings until ctx ends or the leg is gone.
func (l *leg) keepAlive(ctx context.Context) legError {
	ticker := time.NewTicker(l.pingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return legError{l, ctx.Err()}
		case <-ticker.C:
			if err := l.ping(); err != nil {
				return legError{l, err}
			}
		}
	}
}

// closeCode turns the end of one leg into the close frame for the other. Codes that
// stand for "no close frame came" must not be sent (RFC 6455, 7.4.1). A lost leg is no
// GoingAway, by which clients understand that somebody else has taken the stream.
func closeCode(err error) (int, string) {
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		return websocket.CloseInternalServerErr, "the connection was lost"
	}
	switch closed.Code {
	case websocket.CloseNoStatusReceived:
		return websocket.CloseNormalClosure, ""
	case websocket.CloseAbnormalClosure, websocket.CloseTLSHandshake:
		return websocket.CloseInternalServerErr, "the connection was lost"
	default:
		return closed.Code, closed.Text
	}
}
