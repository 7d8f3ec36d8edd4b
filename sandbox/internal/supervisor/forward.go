// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package supervisor

import (
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/deckhouse/virtualization/sandbox/internal/state"
)

const dialTimeout = 5 * time.Second

// forward passes connections on between the machine and the nodes' network.
type forward struct {
	request  ForwardRequest
	listener net.Listener
	// dialIn runs a function where the target can be reached.
	dialIn func(func() error) error
}

// here runs a function where this process is anyway.
func here(f func() error) error { return f() }

// newForward starts a forward; inside runs a function in the nodes' network.
func newForward(r ForwardRequest, inside func(func() error) error) (*forward, error) {
	f := &forward{request: r, dialIn: inside}
	listenIn := here
	if r.FromNodes {
		listenIn, f.dialIn = inside, here
	}
	err := listenIn(func() (err error) {
		f.listener, err = net.Listen("tcp", r.Listen)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("forward %s to %s: %w: end the program that has the port, or choose another with %s or %s",
			r.Listen, r.Target, err, state.APIEnvVar, state.IngressEnvVar)
	}
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
	err := f.dialIn(func() (err error) {
		far, err = net.DialTimeout("tcp", f.request.Target, dialTimeout)
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
