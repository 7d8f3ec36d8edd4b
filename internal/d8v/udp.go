// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package d8v

import (
	"context"
	"net"
	"sync"
	"time"

	gorilla "github.com/gorilla/websocket"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

const (
	// maxDatagram is the most that a datagram of UDP can hold, in bytes.
	maxDatagram = 65535
	// idleUDP is how long a sender of datagrams may be silent until its tunnel is
	// closed: UDP knows no end of a conversation.
	idleUDP = 2 * time.Minute
)

// udpTunnels has one tunnel per local sender, as answers have to find their way back.
type udpTunnels struct {
	packets net.PacketConn
	open    func(context.Context) (*gorilla.Conn, error)
	failed  func(error)
	clock   clock.WithTicker

	mu      sync.Mutex
	senders map[string]*udpTunnel
}

type udpTunnel struct {
	// outgoing are datagrams that wait for the tunnel; as on any network, what there
	// is no room for is lost.
	outgoing chan []byte
	lastUsed time.Time
	cancel   context.CancelFunc
}

// serveUDP forwards datagrams until the context ends.
func (c *cli) serveUDP(ctx context.Context, packets net.PacketConn, key client.ObjectKey, port forwarding) error {
	tunnels := &udpTunnels{
		packets: packets, clock: clock.RealClock{}, senders: map[string]*udpTunnel{},
		open: func(ctx context.Context) (*gorilla.Conn, error) {
			return c.open(ctx, key, "portforward", port.query())
		},
		failed: func(err error) { c.say("%v", c.forwardError(key, port, err)) },
	}
	return tunnels.serve(ctx)
}

func (u *udpTunnels) serve(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(ctx, func() { _ = u.packets.Close() })()
	go u.sweep(ctx)
	buffer := make([]byte, maxDatagram)
	for {
		n, from, err := u.packets.ReadFrom(buffer)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return err
		}
		select {
		case u.tunnel(ctx, from).outgoing <- append([]byte(nil), buffer[:n]...):
		default:
		}
	}
}

// tunnel finds the tunnel of a sender or begins one.
func (u *udpTunnels) tunnel(ctx context.Context, from net.Addr) *udpTunnel {
	u.mu.Lock()
	defer u.mu.Unlock()
	current, found := u.senders[from.String()]
	if !found {
		ctx, cancel := context.WithCancel(ctx)
		current = &udpTunnel{outgoing: make(chan []byte, 64), cancel: cancel}
		u.senders[from.String()] = current
		go func() {
			defer cancel()
			if err := u.run(ctx, current, from); err != nil && ctx.Err() == nil {
				u.failed(err)
			}
			u.mu.Lock()
			delete(u.senders, from.String())
			u.mu.Unlock()
		}()
	}
	current.lastUsed = u.clock.Now()
	return current
}

// run carries the datagrams of one sender, one to a message.
func (u *udpTunnels) run(ctx context.Context, current *udpTunnel, from net.Addr) error {
	conn, err := u.open(ctx)
	if err != nil {
		return err
	}
	defer hangUp(conn)
	received := make(chan error, 1)
	go func() {
		for {
			_, data, err := conn.ReadMessage()
			if err != nil {
				received <- err
				return
			}
			u.touch(current)
			_, _ = u.packets.WriteTo(data, from)
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-received:
			return err
		case data := <-current.outgoing:
			if err := conn.WriteMessage(gorilla.BinaryMessage, data); err != nil {
				return err
			}
		}
	}
}

func (u *udpTunnels) touch(current *udpTunnel) {
	u.mu.Lock()
	defer u.mu.Unlock()
	current.lastUsed = u.clock.Now()
}

// sweep closes tunnels that nobody has used for long.
func (u *udpTunnels) sweep(ctx context.Context) {
	ticker := u.clock.NewTicker(idleUDP / 4)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		u.mu.Lock()
		for _, current := range u.senders {
			if u.clock.Since(current.lastUsed) >= idleUDP {
				current.cancel()
			}
		}
		u.mu.Unlock()
	}
}
