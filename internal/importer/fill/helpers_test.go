// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

// rawDisk has a partition table, random bytes and holes of many lengths.
func rawDisk(size int) []byte {
	disk := make([]byte, size)
	random := rand.New(rand.NewChaCha8([32]byte{5}))
	fill := rand.NewChaCha8([32]byte{6})
	for at := 0; at < size; {
		length := min(1<<(9+random.IntN(13)), size-at)
		if random.IntN(2) == 0 {
			_, _ = fill.Read(disk[at : at+length])
		}
		at += length
	}
	copy(disk, "\xeb\x63\x90")
	copy(disk[510:], "\x55\xaa")
	return disk
}

// qcow2Disk is the disk that the images in the testdata of package qcow2 hold.
func qcow2Disk() []byte {
	disk := make([]byte, 1<<20+512)
	for sector := range len(disk) / 512 {
		if sector%37 < 5 && (sector < 700 || sector >= 1400) {
			for at := range 512 {
				disk[sector*512+at] = byte(sector*7 + at/16 + 1)
			}
		}
	}
	return disk
}

// qcow2File is an image of that disk, written by QEMU.
func qcow2File(t testing.TB, name string) []byte {
	t.Helper()
	return unpackedFile(t, "..", "..", "image", "qcow2", "testdata", name+".qcow2.gz")
}

func unpackedFile(t testing.TB, path ...string) []byte {
	t.Helper()
	packed, err := os.Open(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	defer packed.Close()
	unpacked, err := gzip.NewReader(packed)
	if err != nil {
		t.Fatal(err)
	}
	file, err := io.ReadAll(unpacked)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

func gzipped(t testing.TB, content []byte) []byte {
	t.Helper()
	var out bytes.Buffer
	w := gzip.NewWriter(&out)
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// server is a source that can do everything, and can be told to misbehave. Only
// what streaming offers is seen of it unless it is wrapped in ranged.
type server struct {
	content   []byte
	validator string
	// sized is false for a source that does not tell the length.
	sized bool
	// hook runs before each read of a stream; its error is the stream's.
	hook func(offset int64) error
	// atRandom replaces what is read at random.
	atRandom func(p []byte, offset int64) (int, error)

	mu     sync.Mutex
	opened []int64
	reads  int
}

func newServer(content []byte) *server {
	return &server{content: content, validator: `"v1"`, sized: true}
}

func (s *server) Open(ctx context.Context) (source.Stream, error) { return s.at(ctx, 0), nil }

func (s *server) at(ctx context.Context, offset int64) source.Stream {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opened = append(s.opened, offset)
	return &serverStream{ctx: ctx, server: s, content: s.content, validator: s.validator, offset: offset}
}

// resumable is a server that streams from any offset on.
type resumable struct{ *server }

func (s resumable) OpenAt(ctx context.Context, offset int64, validator string) (source.Stream, error) {
	if validator != s.validator || offset > int64(len(s.content)) {
		return nil, &source.ChangedError{Why: "the validator differs"}
	}
	return s.at(ctx, offset), nil
}

// ranged is a server that can be read at random, too.
type ranged struct{ resumable }

func (s ranged) OpenRanged(context.Context) (source.ReaderAt, error) {
	return &serverReader{server: s.server, validator: s.validator}, nil
}

func rangedServer(content []byte) ranged { return ranged{resumable{newServer(content)}} }

type serverStream struct {
	ctx       context.Context
	server    *server
	content   []byte
	validator string
	offset    int64
	received  int64
}

func (s *serverStream) Read(p []byte) (int, error) {
	if s.ctx.Err() != nil {
		return 0, s.ctx.Err()
	}
	if s.server.hook != nil {
		if err := s.server.hook(s.offset); err != nil {
			return 0, err
		}
	}
	if s.offset == int64(len(s.content)) {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), 100<<10)], s.content[s.offset:])
	s.offset += int64(n)
	s.received += int64(n)
	return n, nil
}

func (s *serverStream) Close() error      { return nil }
func (s *serverStream) Received() int64   { return s.received }
func (s *serverStream) Validator() string { return s.validator }
func (s *serverStream) Size() int64 {
	if !s.server.sized {
		return source.UnknownSize
	}
	return int64(len(s.content))
}

type serverReader struct {
	server    *server
	validator string
	mu        sync.Mutex
	received  int64
}

func (r *serverReader) ReadAt(p []byte, offset int64) (int, error) {
	r.server.mu.Lock()
	r.server.reads++
	r.server.mu.Unlock()
	read := bytes.NewReader(r.server.content).ReadAt
	if r.server.atRandom != nil {
		read = r.server.atRandom
	}
	n, err := read(p, offset)
	r.mu.Lock()
	defer r.mu.Unlock()
	r.received += int64(n)
	return n, err
}

func (r *serverReader) Close() error      { return nil }
func (r *serverReader) Validator() string { return r.validator }
func (r *serverReader) Size() int64       { return int64(len(r.server.content)) }
func (r *serverReader) Received() int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.received
}

func sha256Of(content []byte) image.Checksum {
	sum := sha256.Sum256(content)
	return image.Checksum{Algorithm: "sha256", Sum: sum[:]}
}

func md5Of(t testing.TB, content []byte) image.Checksum {
	t.Helper()
	c := image.Checksum{Algorithm: "md5"}
	h := c.NewHash()
	h.Write(content)
	c.Sum = h.Sum(nil)
	return c
}

// wantDisk verifies what is on the volume: the disk, then zeros.
func wantDisk(t testing.TB, directory string, disk []byte, size int64) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(directory, "disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	if int64(len(got)) != size {
		t.Fatalf("the disk has %d bytes, want %d", len(got), size)
	}
	if bytes.Equal(got[:len(disk)], disk) && volume.IsZero(got[len(disk):]) {
		return
	}
	for at := range disk {
		if got[at] != disk[at] {
			t.Fatalf("byte %d is %#x, want %#x", at, got[at], disk[at])
		}
	}
	for at := len(disk); at < len(got); at++ {
		if got[at] != 0 {
			t.Fatalf("byte %d behind the disk is %#x", at, got[at])
		}
	}
}

// wantFailure verifies a failure's reason and that it mentions the text.
func wantFailure(t testing.TB, err error, reason report.Reason, text string) {
	t.Helper()
	var (
		failure   *report.Failure
		fromImage *image.Error
	)
	switch {
	case errors.As(err, &fromImage):
		// Which field of the spec leads to the image is the importer's to add.
		reasons := map[image.Kind]report.Reason{image.NotSupported: report.FormatNotSupported, image.Refused: report.FormatRefused, image.Corrupt: report.ImageCorrupt}
		failure = &report.Failure{Reason: reasons[fromImage.Kind], Message: fromImage.Message}
	case !errors.As(err, &failure):
		t.Fatalf("got %v, want %s with %q", err, reason, text)
	}
	if failure.Reason != reason || !strings.Contains(failure.Message, text) {
		t.Fatalf("got %v, want %s with %q", err, reason, text)
	}
}

// registry is a place to stage images at.
type registry struct {
	content []byte
	resumed *report.Checkpoint
	removed bool
	fail    error
	// broken is what is read from the staged image with.
	broken func(p []byte, offset int64) (int, error)
}

func (r *registry) stage(ctx context.Context, from source.Source, resume *report.Checkpoint) (*Staged, error) {
	r.resumed = resume
	if r.fail != nil {
		return nil, r.fail
	}
	opened, err := from.Open(ctx)
	if err != nil {
		return nil, err
	}
	defer opened.Close()
	if r.content, err = io.ReadAll(opened); err != nil {
		return nil, err
	}
	if bytes.HasPrefix(r.content, []byte("\x1f\x8b")) {
		unpacked, err := gzip.NewReader(bytes.NewReader(r.content))
		if err != nil {
			return nil, err
		}
		if r.content, err = io.ReadAll(unpacked); err != nil {
			return nil, err
		}
	}
	staged := rangedServer(r.content)
	staged.atRandom = r.broken
	return &Staged{Source: staged, Received: opened.Received(), Remove: func(context.Context) error {
		r.removed = true
		return nil
	}}, nil
}

func title(parts ...any) string { return strings.ReplaceAll(fmt.Sprint(parts...), " ", "_") }

// fresh is a volume that nothing was written to.
func fresh(t *testing.T) *volume.Volume {
	t.Helper()
	v, err := volume.Open(volume.Options{Path: t.TempDir(), Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { v.Close() })
	return v
}
