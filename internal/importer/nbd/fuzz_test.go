// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package nbd

import (
	"bytes"
	"context"
	"encoding/binary"
	"io"
	"testing"

	"golang.org/x/sync/semaphore"
)

// fenced fails the test when it is read outside of the disk.
type fenced struct {
	t    *testing.T
	size int64
}

func (f fenced) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || int64(len(p)) > f.size-offset {
		f.t.Errorf("read %d bytes at %d of %d", len(p), offset, f.size)
	}
	return len(p), nil
}

// sentBy is a client that sends its bytes and listens to nothing.
type sentBy struct {
	io.Reader
	io.Writer
}

// FuzzConnection gives the server a whole conversation: the client's flags,
// options and requests.
func FuzzConnection(f *testing.F) {
	flags := "\x00\x00\x00\x03"
	begin := flags + "IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x0a\x00\x00\x00\x04disk\x00\x00"
	read := string(requestBytes(request{offset: 100, length: 50}))
	f.Add([]byte(begin + read + read))
	f.Add([]byte(begin + string(requestBytes(request{offset: 1<<64 - 1, length: 1<<32 - 1}))))
	f.Add([]byte(flags + "IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x04disk" + read))
	f.Add([]byte(flags + "IHAVEOPT\x00\x00\x00\x03\x00\x00\x00\x00IHAVEOPT\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Add([]byte(flags + "IHAVEOPT\x00\x00\x00\x06\x00\x00\x00\x0c\x00\x00\x00\x04disk\x00\x01\x00\x03"))
	f.Add([]byte(""))
	f.Fuzz(func(t *testing.T, sent []byte) {
		const size = 4096
		s := &Server{Export: "disk", Disk: fenced{t, size}, Size: size}
		conversation := sentBy{bytes.NewReader(sent), io.Discard}
		if (&handshake{server: s, rw: conversation}).run() != nil {
			return
		}
		memory := semaphore.NewWeighted(maxRead)
		(&transmission{server: s, writer: io.Discard, memory: memory}).run(context.Background(), conversation)
		if !memory.TryAcquire(maxRead) {
			t.Error("memory is not given back")
		}
	})
}

// FuzzRequest holds the bounds against any size of a disk.
func FuzzRequest(f *testing.F) {
	f.Add(requestBytes(request{offset: 100, length: 50}), int64(4096))
	f.Add(requestBytes(request{offset: 1<<64 - 1, length: 1<<32 - 1}), int64(1<<62))
	f.Add(requestBytes(request{flags: 1, command: 6}), int64(0))
	f.Fuzz(func(t *testing.T, sent []byte, size int64) {
		if len(sent) != requestSize || size < 0 {
			return
		}
		asked, err := parseRequest([requestSize]byte(sent))
		if err != nil || asked.check(size) != 0 {
			return
		}
		end := asked.offset + uint64(asked.length)
		if asked.command != 0 || asked.length == 0 || asked.length > 32<<20 || end < asked.offset || end > uint64(size) {
			t.Fatalf("accepted %+v of a disk of %d bytes", asked, size)
		}
		if !bytes.Equal(requestBytes(asked), sent) {
			t.Fatalf("%x was read as %+v", sent, asked)
		}
	})
}

func requestBytes(r request) []byte {
	b := binary.BigEndian.AppendUint32(nil, 0x25609513)
	b = binary.BigEndian.AppendUint16(b, r.flags)
	b = binary.BigEndian.AppendUint16(b, r.command)
	b = binary.BigEndian.AppendUint64(b, r.cookie)
	b = binary.BigEndian.AppendUint64(b, r.offset)
	return binary.BigEndian.AppendUint32(b, r.length)
}
