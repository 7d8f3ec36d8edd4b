// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/image/qcow2"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// endless is a raw disk of any length that takes no memory: a boot sector, then
// zeros.
type endless struct{ length int64 }

func (e endless) Open(context.Context) (source.Stream, error) {
	return &endlessStream{length: e.length}, nil
}

type endlessStream struct{ length, offset int64 }

func (s *endlessStream) Read(p []byte) (int, error) {
	n := int(min(int64(len(p)), s.length-s.offset))
	if n == 0 {
		return 0, io.EOF
	}
	clear(p[:n])
	if s.offset < 512 {
		sector := make([]byte, 512)
		copy(sector[510:], "\x55\xaa")
		copy(p[:n], sector[s.offset:])
	}
	s.offset += int64(n)
	return n, nil
}

func (s *endlessStream) Close() error      { return nil }
func (s *endlessStream) Size() int64       { return s.length }
func (s *endlessStream) Received() int64   { return s.offset }
func (s *endlessStream) Validator() string { return "" }

// peakHeap runs f and returns the most heap in use meanwhile.
func peakHeap(f func()) uint64 {
	runtime.GC()
	var peak atomic.Uint64
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		for {
			var stats runtime.MemStats
			runtime.ReadMemStats(&stats)
			peak.Store(max(peak.Load(), stats.HeapInuse))
			select {
			case <-stop:
				return
			case <-time.After(10 * time.Millisecond):
			}
		}
	}()
	f()
	close(stop)
	<-done
	return peak.Load()
}

// TestMemoryIsFlat allows what the bound of an import allows. A tighter one would be
// one on the moments at which the collector ran: a small disk is over between two looks.
func TestMemoryIsFlat(t *testing.T) {
	measure := func(length int64) uint64 {
		directory := t.TempDir()
		return peakHeap(func() {
			if _, err := Fill(context.Background(), Options{Source: endless{length}, Target: directory, Size: length}); err != nil {
				t.Error(err)
			}
		})
	}
	little, much := measure(32<<20), measure(2<<30)
	if much > little+64<<20 || much > 96<<20 {
		t.Errorf("%d MiB of heap for 32 MiB, %d MiB for 2 GiB", little>>20, much>>20)
	}
}

// BenchmarkMemory tells the most memory that sparse disks of both sizes take.
func BenchmarkMemory(b *testing.B) {
	for _, length := range []int64{1 << 30, 50 << 30} {
		b.Run(fmt.Sprintf("%d GiB", length>>30), func(b *testing.B) {
			b.SetBytes(length)
			for b.Loop() {
				peak := peakHeap(func() {
					if _, err := Fill(context.Background(), Options{Source: endless{length}, Target: b.TempDir(), Size: length}); err != nil {
						b.Error(err)
					}
				})
				b.ReportMetric(float64(peak>>20), "MiB-heap")
			}
		})
	}
}

// BenchmarkSparse fills a volume from a web server with a disk of which a sixteenth
// is data, as BenchmarkFill does from memory with a full one: what is measured is
// what zeros cost on their way.
func BenchmarkSparse(b *testing.B) {
	const length = 4 << 30
	served := filepath.Join(b.TempDir(), "disk.raw")
	file, err := os.Create(served)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, 4<<20)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	copy(data[510:], "\x55\xaa")
	for at := int64(0); at < length; at += 64 << 20 {
		if _, err := file.WriteAt(data, at); err != nil {
			b.Fatal(err)
		}
	}
	if err := errors.Join(file.Truncate(length), file.Sync(), file.Close()); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(http.FileServer(http.Dir(filepath.Dir(served))))
	defer server.Close()
	from, err := source.NewHTTP(source.HTTPOptions{URL: server.URL + "/disk.raw"})
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(length)
	for b.Loop() {
		if _, err := Fill(context.Background(), Options{Source: from, Target: b.TempDir(), Size: length}); err != nil {
			b.Fatal(err)
		}
	}
}

// benchmarkDisk is 512 MiB of which a half is random.
func benchmarkDisk() []byte {
	disk := make([]byte, 512<<20)
	random := rand.NewChaCha8([32]byte{1})
	for at := 0; at < len(disk); at += 32 << 20 {
		_, _ = random.Read(disk[at : at+16<<20])
	}
	copy(disk[510:], "\x55\xaa")
	return disk
}

func benchmarkQCOW2(b *testing.B, disk []byte) []byte {
	b.Helper()
	allocation, err := qcow2.NewAllocation(int64(len(disk)), 64<<10)
	if err != nil {
		b.Fatal(err)
	}
	for at := int64(0); at < int64(len(disk)); at += 32 << 20 {
		allocation.Mark(at, 16<<20)
	}
	writer, err := qcow2.NewWriter(allocation)
	if err != nil {
		b.Fatal(err)
	}
	file := make([]byte, writer.Size())
	if _, err := writer.File(bytes.NewReader(disk)).ReadAt(file, 0); err != nil {
		b.Fatal(err)
	}
	return file
}

// BenchmarkFill compares filling a volume with copying the same file to a file
// and waiting until it is durable. The bytes are those of the disk in each case.
func BenchmarkFill(b *testing.B) {
	disk := benchmarkDisk()
	file := benchmarkQCOW2(b, disk)
	b.Run("plain copy", func(b *testing.B) {
		directory := b.TempDir()
		b.SetBytes(int64(len(disk)))
		for b.Loop() {
			copyPlainly(b, disk, filepath.Join(directory, "disk.img"))
		}
	})
	for _, tc := range []struct {
		title     string
		file      []byte
		checksums []image.Checksum
	}{
		{"raw", disk, nil},
		{"raw with sha256", disk, []image.Checksum{sha256Of(disk)}},
		{"qcow2", file, nil},
		{"qcow2 with sha256", file, []image.Checksum{sha256Of(file)}},
	} {
		b.Run(tc.title, func(b *testing.B) {
			directory := b.TempDir()
			b.SetBytes(int64(len(disk)))
			for b.Loop() {
				_, err := Fill(context.Background(), Options{Source: rangedServer(tc.file), Target: directory, Size: int64(len(disk)), Checksums: tc.checksums})
				if err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func copyPlainly(b *testing.B, disk []byte, path string) {
	b.Helper()
	to, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer to.Close()
	// bytes.Reader's own way to write would make one single call of it.
	from := struct{ io.Reader }{bytes.NewReader(disk)}
	if _, err := io.CopyBuffer(struct{ io.Writer }{to}, from, make([]byte, 1<<20)); err != nil {
		b.Fatal(err)
	}
	if err := to.Sync(); err != nil {
		b.Fatal(err)
	}
}
