// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package nbd serves a disk to one program on the same machine, read-only, by
// the Network Block Device protocol (fixed newstyle, simple replies).
//
// It exists so that qemu-img can read an image that is somewhere else without
// being told where: it gets a socket and bytes, never a URL, a credential or a
// file's name. The client parses untrusted bytes, so it is not trusted either:
// whatever it sends, it reads inside the export or loses its connection, and the
// memory that all of its requests together take is bounded.
package nbd

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/semaphore"
)

const (
	// maxConnections is more than qemu-img opens.
	maxConnections = 8
	// handshakeTimeout is plenty for a client on the same machine.
	handshakeTimeout = 10 * time.Second
)

// Server offers one disk.
type Server struct {
	// Export is the disk's name.
	Export string
	// Disk is read from several goroutines at once.
	Disk io.ReaderAt
	// Size of the disk in bytes.
	Size int64
}

// Serve answers the listener's clients until ctx ends, which closes the listener
// and all connections. It returns when nothing of them is left; errors of single
// connections end only these.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { listener.Close() })
	defer stop()
	var connections sync.WaitGroup
	defer connections.Wait()
	defer cancel()
	slots := make(chan struct{}, maxConnections)
	memory := semaphore.NewWeighted(maxRead)
	for {
		select {
		case slots <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
		connection, err := listener.Accept()
		switch {
		case err != nil && ctx.Err() != nil:
			return nil
		case err != nil:
			return fmt.Errorf("accept a connection to the disk: %w", err)
		}
		connections.Go(func() {
			s.connection(ctx, connection, memory)
			<-slots
		})
	}
}

func (s *Server) connection(ctx context.Context, connection net.Conn, memory *semaphore.Weighted) {
	stop := context.AfterFunc(ctx, func() { connection.Close() })
	defer stop()
	defer connection.Close()
	if err := connection.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		return
	}
	h := &handshake{server: s, rw: connection}
	if h.run() != nil || connection.SetDeadline(time.Time{}) != nil {
		return
	}
	t := &transmission{server: s, writer: connection, memory: memory}
	t.run(ctx, bufio.NewReader(connection))
}

// transmission answers the requests of one connection, in any order.
type transmission struct {
	server *Server
	memory *semaphore.Weighted

	mu     sync.Mutex
	writer io.Writer
	broken error
}

// run returns when the client has ended or made no sense, and every request
// before that is answered.
func (t *transmission) run(ctx context.Context, r io.Reader) {
	var reads sync.WaitGroup
	defer reads.Wait()
	for {
		var head [requestSize]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		asked, err := parseRequest(head)
		// Behind a write follow bytes that nobody here wants.
		if err != nil || asked.command == commandDisconnect || asked.command == commandWrite {
			return
		}
		if code := asked.check(t.server.Size); code != 0 {
			if t.reply(code, asked.cookie, nil) != nil {
				return
			}
			continue
		}
		weight := int64(asked.length)
		if t.memory.Acquire(ctx, weight) != nil {
			return
		}
		reads.Go(func() {
			defer t.memory.Release(weight)
			t.read(asked)
		})
	}
}

// buffers are used again: the same few sizes are asked for all the time.
var buffers = sync.Pool{New: func() any { return new([]byte) }}

func (t *transmission) read(asked request) {
	buffer := buffers.Get().(*[]byte)
	defer buffers.Put(buffer)
	if cap(*buffer) < int(asked.length) {
		*buffer = make([]byte, asked.length)
	}
	data := (*buffer)[:asked.length]
	n, err := t.server.Disk.ReadAt(data, int64(asked.offset))
	if n < len(data) || (err != nil && !errors.Is(err, io.EOF)) {
		_ = t.reply(errorIO, asked.cookie, nil)
		return
	}
	_ = t.reply(0, asked.cookie, data)
}

// reply writes a reply as a whole: the client cannot find its place again after
// half of one.
func (t *transmission) reply(code uint32, cookie uint64, data []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.broken != nil {
		return t.broken
	}
	parts := net.Buffers{appendReply(nil, code, cookie)}
	if len(data) > 0 {
		parts = append(parts, data)
	}
	_, t.broken = parts.WriteTo(t.writer)
	return t.broken
}
