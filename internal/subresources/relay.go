// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package subresources

import (
	"context"
	"errors"
	"io"
	"sync"
	"time"

	"github.com/gorilla/websocket"
)

// relay joins two websockets. Both legs are pinged: an idle console would be cut
// by any load balancer on the way, and a leg that vanished without a word would
// hold its connection for ever.
type relay struct {
	pingInterval time.Duration
	pongTimeout  time.Duration
}

// writeWait bounds a control frame.
const writeWait = 10 * time.Second

// run copies until either leg ends or ctx is done, then closes both, handing the
// close code of the leg that ended to the other. It returns when no goroutine of
// it is left.
func (r relay) run(ctx context.Context, a, b *websocket.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	start := func(f func()) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			defer cancel()
			f()
		}()
	}
	start(func() { r.copy(b, a) })
	start(func() { r.copy(a, b) })
	start(func() { r.keepAlive(ctx, a) })
	start(func() { r.keepAlive(ctx, b) })
	<-ctx.Done()
	// Closing ends the reads that the copies wait in.
	_ = a.Close()
	_ = b.Close()
	wg.Wait()
}

// copy moves messages from one leg to the other and passes on how it ended.
func (r relay) copy(to, from *websocket.Conn) {
	extend := func() { _ = from.SetReadDeadline(time.Now().Add(r.pongTimeout)) }
	extend()
	from.SetPongHandler(func(string) error { extend(); return nil })
	err := copyMessages(to, from, extend)
	code, text := closeCode(err)
	_ = to.WriteControl(websocket.CloseMessage, websocket.FormatCloseMessage(code, text), time.Now().Add(writeWait))
}

func copyMessages(to, from *websocket.Conn, received func()) error {
	for {
		kind, reader, err := from.NextReader()
		if err != nil {
			return err
		}
		received()
		writer, err := to.NextWriter(kind)
		if err != nil {
			return err
		}
		if _, err := io.Copy(writer, reader); err != nil {
			return err
		}
		if err := writer.Close(); err != nil {
			return err
		}
	}
}

// keepAlive pings until ctx ends or the leg is gone.
func (r relay) keepAlive(ctx context.Context, leg *websocket.Conn) {
	ticker := time.NewTicker(r.pingInterval)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
			if err := leg.WriteControl(websocket.PingMessage, nil, time.Now().Add(writeWait)); err != nil {
				return
			}
		}
	}
}

// closeCode turns the end of one leg into the close frame for the other. Codes
// that stand for "no close frame came" must not be sent (RFC 6455, 7.4.1).
func closeCode(err error) (int, string) {
	var closed *websocket.CloseError
	if !errors.As(err, &closed) {
		return websocket.CloseGoingAway, "the other side went away"
	}
	switch closed.Code {
	case websocket.CloseNoStatusReceived:
		return websocket.CloseNormalClosure, ""
	case websocket.CloseAbnormalClosure, websocket.CloseTLSHandshake:
		return websocket.CloseGoingAway, "the other side went away"
	default:
		return closed.Code, closed.Text
	}
}
