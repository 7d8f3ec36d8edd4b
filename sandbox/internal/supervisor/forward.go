// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const dialTimeout = 5 * time.Second

// forward passes connections from the machine on to an address in the nodes'
// network.
type forward struct {
	target   string
	listener net.Listener
	// inside runs a function where the target can be reached.
	inside func(func() error) error
}

func newForward(listen, target string, inside func(func() error) error) (*forward, error) {
	l, err := net.Listen("tcp", listen)
	if err != nil {
		return nil, fmt.Errorf("listen for the API server: %w: end the program that has the port, or run one sandbox at a time", err)
	}
	f := &forward{target: target, listener: l, inside: inside}
	go f.accept()
	return f, nil
}

func (f *forward) close() { f.listener.Close() }

func (f *forward) accept() {
	for {
		conn, err := f.listener.Accept()
		if err != nil {
			return
		}
		go f.serve(conn)
	}
}

func (f *forward) serve(conn net.Conn) {
	defer conn.Close()
	var far net.Conn
	err := f.inside(func() (err error) {
		far, err = net.DialTimeout("tcp", f.target, dialTimeout)
		return err
	})
	if err != nil {
		return
	}
	defer far.Close()
	var both sync.WaitGroup
	both.Go(func() { pipe(far, conn) })
	both.Go(func() { pipe(conn, far) })
	both.Wait()
}

// pipe copies one direction and passes its end on, since the other direction
// may still have something to say.
func pipe(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	if c, ok := to.(*net.TCPConn); ok {
		_ = c.CloseWrite()
	}
}
