// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
)

func disk(size int) []byte {
	b := make([]byte, size)
	_, _ = rand.NewChaCha8([32]byte{7}).Read(b)
	return b
}

// start serves a disk on a socket and returns its path.
func start(t testing.TB, s *Server) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	return path
}

// client speaks the protocol by hand.
type client struct {
	t testing.TB
	net.Conn
}

func dial(t testing.TB, path string) *client {
	t.Helper()
	connection, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { connection.Close() })
	if err := connection.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	c := &client{t, connection}
	c.want("NBDMAGICIHAVEOPT\x00\x03")
	c.send("\x00\x00\x00\x03")
	return c
}

func (c *client) send(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatal(err)
	}
}

func (c *client) want(text string) {
	c.t.Helper()
	got := make([]byte, len(text))
	if _, err := io.ReadFull(c, got); err != nil || string(got) != text {
		c.t.Fatalf("got %q, %v; want %q", got, err, text)
	}
}

// wantEnd verifies that the server has closed the connection.
func (c *client) wantEnd() {
	c.t.Helper()
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil {
		c.t.Fatalf("%d more bytes, %v", n, err)
	}
}

func (c *client) option(code byte, data string) {
	c.t.Helper()
	c.send("IHAVEOPT\x00\x00\x00" + string([]byte{code, 0, 0, byte(len(data) >> 8), byte(len(data))}) + data)
}

func (c *client) wantReply(option byte, code, data string) {
	c.t.Helper()
	c.want("\x00\x03\xe8\x89\x04\x55\x65\xa9\x00\x00\x00" + string([]byte{option}) + code + string([]byte{0, 0, 0, byte(len(data))}) + data)
}

// choose begins the transmission.
func (c *client) choose() {
	c.t.Helper()
	c.option(7, "\x00\x00\x00\x04disk\x00\x00")
	c.wantReply(7, "\x00\x00\x00\x03", "\x00\x00"+sizeAndFlags)
	c.wantReply(7, "\x00\x00\x00\x01", "")
}

func (c *client) request(flags, command uint16, cookie, offset uint64, length uint32) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32(nil, 0x25609513)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = binary.BigEndian.AppendUint16(b, command)
	b = binary.BigEndian.AppendUint64(b, cookie)
	b = binary.BigEndian.AppendUint64(b, offset)
	c.send(string(binary.BigEndian.AppendUint32(b, length)))
}

func (c *client) wantAnswer(code uint32, cookie uint64) {
	c.t.Helper()
	b := binary.BigEndian.AppendUint32([]byte("\x67\x44\x66\x98"), code)
	c.want(string(binary.BigEndian.AppendUint64(b, cookie)))
}

// The tests' disk has 1 MiB and a bit; it is read-only and may be read over
// several connections.
const (
	size         = 1<<20 + 100
	sizeAndFlags = "\x00\x00\x00\x00\x00\x10\x00\x64\x01\x03"
)

func TestHandshake(t *testing.T) {
	path := start(t, &Server{Export: "disk", Disk: bytes.NewReader(disk(size)), Size: size})
	c := dial(t, path)
	c.option(8, "") // Structured replies.
	c.wantReply(8, "\x80\x00\x00\x01", "")
	c.option(200, "whatever")
	c.wantReply(200, "\x80\x00\x00\x01", "")
	c.option(3, "")
	c.wantReply(3, "\x00\x00\x00\x02", "\x00\x00\x00\x04disk")
	c.wantReply(3, "\x00\x00\x00\x01", "")
	c.option(3, "x")
	c.wantReply(3, "\x80\x00\x00\x03", "")
	c.option(6, "\x00\x00\x00\x05other\x00\x00")
	c.wantReply(6, "\x80\x00\x00\x06", "")
	for _, malformed := range []string{"", "\x00\x00\x00", "\x00\x00\x00\x04disk", "\xff\xff\xff\xffdisk\x00\x00", "\x00\x00\x00\x04disk\x00\x01", "\x00\x00\x00\x04disk\x00\x00x"} {
		c.option(7, malformed)
		c.wantReply(7, "\x80\x00\x00\x03", "")
	}
	c.option(6, "\x00\x00\x00\x04disk\x00\x02\x00\x00\x00\x03")
	c.wantReply(6, "\x00\x00\x00\x03", "\x00\x00"+sizeAndFlags)
	c.wantReply(6, "\x00\x00\x00\x03", "\x00\x03\x00\x00\x00\x01\x00\x01\x00\x00\x02\x00\x00\x00")
	c.wantReply(6, "\x00\x00\x00\x01", "")
	c.choose()
	c.request(0, 2, 0, 0, 0)
	c.wantEnd()
}

func TestOldHandshake(t *testing.T) {
	path := start(t, &Server{Export: "disk", Disk: bytes.NewReader(disk(size)), Size: size})
	c := dial(t, path)
	c.option(1, "disk")
	c.want(sizeAndFlags)
	c.request(0, 0, 5, 10, 3)
	c.wantAnswer(0, 5)
	c.want(string(disk(size)[10:13]))
}

func TestHandshakesThatEnd(t *testing.T) {
	path := start(t, &Server{Export: "disk", Disk: bytes.NewReader(disk(size)), Size: size})
	for _, tc := range []struct{ title, sent string }{
		{"no such export", "IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x04none"},
		{"no option", "GET / HTTP/1.1\r\n\r\n"},
		{"an option without end", "IHAVEOPT\x00\x00\x00\x07\xff\xff\xff\xff"},
		{"too long an option", "IHAVEOPT\x00\x00\x00\x07\x00\x00\x20\x01"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			c := dial(t, path)
			c.send(tc.sent)
			c.wantEnd()
		})
	}
	t.Run("abort", func(t *testing.T) {
		c := dial(t, path)
		c.option(2, "")
		c.wantReply(2, "\x00\x00\x00\x01", "")
		c.wantEnd()
	})
	t.Run("no end", func(t *testing.T) {
		c := dial(t, path)
		for range 64 {
			c.option(8, "")
			c.wantReply(8, "\x80\x00\x00\x01", "")
		}
		c.wantEnd()
	})
	t.Run("unknown flags", func(t *testing.T) {
		connection, err := net.Dial("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		defer connection.Close()
		c := &client{t, connection}
		c.want("NBDMAGICIHAVEOPT\x00\x03")
		c.send("\x00\x00\x00\x07")
		c.wantEnd()
	})
}

func TestRequests(t *testing.T) {
	content := disk(size)
	path := start(t, &Server{Export: "disk", Disk: bytes.NewReader(content), Size: size})
	c := dial(t, path)
	c.choose()
	for _, tc := range []struct {
		title          string
		flags, command uint16
		offset         uint64
		length         uint32
		code           uint32
	}{
		{"beginning", 0, 0, 0, 512, 0},
		{"one byte at the end", 0, 0, size - 1, 1, 0},
		{"everything", 0, 0, 0, size, 0},
		{"nothing", 0, 0, 0, 0, 22},
		{"one byte too many", 0, 0, 1, size, 22},
		{"behind the end", 0, 0, size, 1, 22},
		{"far behind the end", 0, 0, 1 << 63, 1, 22},
		{"sum that overflows", 0, 0, 1<<64 - 1, 2, 22},
		{"longer than allowed", 0, 0, 0, 32<<20 + 1, 22},
		{"all bits", 0, 0, 1<<64 - 1, 1<<32 - 1, 22},
		{"unknown flags", 4, 0, 0, 512, 22},
		{"flush", 0, 3, 0, 0, 1},
		{"trim", 0, 4, 0, 512, 1},
		{"cache", 0, 5, 0, 512, 1},
		{"write zeros", 0, 6, 0, 512, 1},
		{"block status", 0, 7, 0, 512, 1},
		{"unknown command", 0, 65535, 0, 512, 1},
	} {
		c.request(tc.flags, tc.command, 77, tc.offset, tc.length)
		c.wantAnswer(tc.code, 77)
		if tc.code == 0 {
			got := make([]byte, tc.length)
			if _, err := io.ReadFull(c, got); err != nil || !bytes.Equal(got, content[tc.offset:][:tc.length]) {
				t.Errorf("%s: other bytes, %v", tc.title, err)
			}
		}
	}
	c.request(0, 1, 1, 0, 4) // A write's bytes would be taken for requests.
	c.wantEnd()
	again := dial(t, path)
	again.choose()
	again.send("not a request, but as long as one")
	again.wantEnd()
}

// failing is a disk that breaks in the middle.
type failing struct{}

func (failing) ReadAt(p []byte, offset int64) (int, error) {
	if offset > 1000 {
		return 0, errors.New("the source is gone")
	}
	clear(p)
	return len(p), nil
}

func TestAReadThatFailsEndsNothingElse(t *testing.T) {
	c := dial(t, start(t, &Server{Export: "disk", Disk: failing{}, Size: size}))
	c.choose()
	c.request(0, 0, 1, 2000, 512)
	c.wantAnswer(5, 1)
	c.request(0, 0, 2, 0, 4)
	c.wantAnswer(0, 2)
	c.want("\x00\x00\x00\x00")
}

// gate is a disk whose reads wait for each other.
type gate struct {
	together *sync.WaitGroup
	content  []byte
}

func (g gate) ReadAt(p []byte, offset int64) (int, error) {
	g.together.Done()
	g.together.Wait()
	return copy(p, g.content[offset:]), nil
}

// Sixteen requests of one connection are under way at once.
func TestRequestsAreServedTogether(t *testing.T) {
	const requests = 16
	g := gate{together: &sync.WaitGroup{}, content: disk(size)}
	g.together.Add(requests)
	c := dial(t, start(t, &Server{Export: "disk", Disk: g, Size: size}))
	c.choose()
	for i := range uint64(requests) {
		c.request(0, 0, i, i*1000, 1000)
	}
	seen := map[uint64]bool{}
	for range requests {
		var head [16]byte
		if _, err := io.ReadFull(c, head[:]); err != nil {
			t.Fatal(err)
		}
		cookie := binary.BigEndian.Uint64(head[8:])
		c.want(string(g.content[cookie*1000:][:1000]))
		seen[cookie] = true
	}
	if len(seen) != requests {
		t.Errorf("answered %v", seen)
	}
}

// hungry counts the bytes that are being read.
type hungry struct {
	mu        sync.Mutex
	now, peak int
}

func (h *hungry) ReadAt(p []byte, _ int64) (int, error) {
	h.mu.Lock()
	h.now += len(p)
	h.peak = max(h.peak, h.now)
	h.mu.Unlock()
	time.Sleep(5 * time.Millisecond)
	h.mu.Lock()
	h.now -= len(p)
	h.mu.Unlock()
	return len(p), nil
}

func TestMemoryOfAllRequestsIsBounded(t *testing.T) {
	h := &hungry{}
	path := start(t, &Server{Export: "disk", Disk: h, Size: 1 << 30})
	var group errgroup.Group
	for range 3 {
		c := dial(t, path)
		c.option(7, "\x00\x00\x00\x04disk\x00\x00")
		c.wantReply(7, "\x00\x00\x00\x03", "\x00\x00\x00\x00\x00\x00\x40\x00\x00\x00\x01\x03")
		c.wantReply(7, "\x00\x00\x00\x01", "")
		group.Go(func() error {
			_, err := io.CopyN(io.Discard, c, 8*(16<<20+16))
			return err
		})
		for i := range uint64(8) {
			c.request(0, 0, i, i<<20, 16<<20)
		}
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	if h.peak > 32<<20 {
		t.Errorf("%d bytes at once", h.peak)
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "socket")
	listener, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan error, 1)
	go func() { served <- (&Server{Export: "disk", Disk: failing{}, Size: size}).Serve(ctx, listener) }()
	connections := make([]*client, 8) // As many as are served; the next one waits.
	for i := range connections {
		connections[i] = dial(t, path)
	}
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("still serving")
	}
	for _, c := range connections {
		c.wantEnd()
	}
}

func TestServeTellsThatItCannotAccept(t *testing.T) {
	listener, err := net.Listen("unix", filepath.Join(t.TempDir(), "socket"))
	if err != nil {
		t.Fatal(err)
	}
	listener.Close()
	if err := (&Server{}).Serve(context.Background(), listener); err == nil {
		t.Error("serving a closed listener")
	}
}

func BenchmarkRead(b *testing.B) {
	const size, step = 64 << 20, 2 << 20
	content := disk(size)
	path := start(b, &Server{Export: "disk", Disk: bytes.NewReader(content), Size: size})
	c := dial(b, path)
	c.option(7, "\x00\x00\x00\x04disk\x00\x00")
	_, _ = io.CopyN(io.Discard, c, 20+12+20)
	b.SetBytes(size)
	for b.Loop() {
		go func() {
			for offset := uint64(0); offset < size; offset += step {
				c.request(0, 0, offset, offset, step)
			}
		}()
		if _, err := io.CopyN(io.Discard, c, size/step*(step+16)); err != nil {
			b.Fatal(err)
		}
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			b.Fatal(err)
		}
	}
}
