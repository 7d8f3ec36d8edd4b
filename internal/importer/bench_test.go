// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// sparseDisk serves a raw disk of the given size that takes no memory.
func sparseDisk(size int64) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(size))
		block := make([]byte, 1<<20)
		copy(block[510:], "\x55\xaa")
		for left := size; left > 0; {
			n, err := w.Write(block[:min(left, int64(len(block)))])
			if err != nil {
				return
			}
			left -= int64(n)
			clear(block[510:512])
		}
	}
}

// discardUploads swallows layers, so that a test needs no disk for them: it
// answers like the registry as far as the importer looks.
func discardUploads(next http.Handler) http.Handler {
	var stored atomic.Int64
	tell := func(w http.ResponseWriter, r *http.Request, status int) {
		w.Header().Set("Location", r.URL.RequestURI())
		w.Header().Set("Range", fmt.Sprintf("0-%d", stored.Load()-1))
		w.WriteHeader(status)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(dvcr.HeaderUploadLength) // No disk is large enough for a test's.
		switch {
		case r.Method == http.MethodPost:
			stored.Store(0)
			next.ServeHTTP(w, r)
		case r.Method == http.MethodPatch:
			_, _ = io.CopyBuffer(writerFunc(func(p []byte) (int, error) {
				stored.Add(int64(len(p)))
				return len(p), nil
			}), r.Body, make([]byte, 256<<10))
			tell(w, r, http.StatusAccepted)
		case r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/"):
			tell(w, r, http.StatusNoContent)
		case r.Method == http.MethodPut:
			// The layer is missing, which ends the import; only its way here matters.
			w.WriteHeader(http.StatusInternalServerError)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// writerFunc is a function that takes what is written.
type writerFunc func(p []byte) (int, error)

// Write implements io.Writer.
func (f writerFunc) Write(p []byte) (int, error) { return f(p) }

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

// zeros is a blank disk of any size that costs nothing.
type zeros struct{ size int64 }

// Open implements source.Source.
func (z zeros) Open(context.Context) (source.Stream, error) {
	return &zeroStream{left: z.size, zeros: z}, nil
}

type zeroStream struct {
	zeros
	left int64
}

func (s *zeroStream) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n := int(min(s.left, int64(len(p))))
	clear(p[:n])
	s.left -= int64(n)
	return n, nil
}

func (s *zeroStream) Close() error      { return nil }
func (s *zeroStream) Size() int64       { return s.size }
func (s *zeroStream) Received() int64   { return s.size - s.left }
func (s *zeroStream) Validator() string { return "" }

func peakOf(t testing.TB, registry *dvcrtest.Registry, size int64) uint64 {
	t.Helper()
	options := newOptions(t, registry, file(nil))
	options.Source = zeros{size}
	return peakHeap(func() {
		_, err := Run(context.Background(), options)
		wantFailure(t, err, "RegistryUnavailable", false, "", "finish the upload")
	})
}

// The memory of an import does not grow with the image. The figures include the
// registry, which runs in the same process.
func TestMemoryIsFlat(t *testing.T) {
	registry := dvcrtest.Start(t, discardUploads)
	tiny, small, large := peakOf(t, registry, 16<<20), peakOf(t, registry, 256<<20), peakOf(t, registry, 1<<30)
	t.Logf("%d MiB of heap for 16 MiB, %d MiB for 256 MiB, %d MiB for 1 GiB", tiny>>20, small>>20, large>>20)
	if large > small+48<<20 || large > 192<<20 || tiny > 64<<20 {
		t.Errorf("%d MiB of heap for 16 MiB, %d MiB for 256 MiB, %d MiB for 1 GiB", tiny>>20, small>>20, large>>20)
	}
}

// BenchmarkMemory tells the most memory that images of both sizes take.
func BenchmarkMemory(b *testing.B) {
	for _, size := range []int64{1 << 30, 50 << 30} {
		b.Run(fmt.Sprintf("%d GiB", size>>30), func(b *testing.B) {
			registry := dvcrtest.Start(b, discardUploads)
			b.SetBytes(size)
			for b.Loop() {
				b.ReportMetric(float64(peakOf(b, registry, size)>>20), "MiB-heap")
			}
		})
	}
}

// BenchmarkImport moves 1 GiB from an HTTP server into the registry's files, with and
// without a checksum beside the copy. What cannot be beaten is a download to a file that
// is then synced.
func BenchmarkImport(b *testing.B) {
	const size = 1 << 30
	sum := sha256.New()
	_, _ = io.CopyN(sum, diskReader(size), size)
	b.Run("download and sync", func(b *testing.B) {
		server := httptest.NewServer(sparseDisk(size))
		defer server.Close()
		directory := b.TempDir()
		b.SetBytes(size)
		for b.Loop() {
			download(b, server.URL, filepath.Join(directory, "disk.img"))
		}
	})
	for _, tc := range []struct {
		title     string
		checksums []string
	}{
		{"no checksum", nil}, {"sha256", []string{fmt.Sprintf("sha256:%x", sum.Sum(nil))}},
	} {
		b.Run(tc.title, func(b *testing.B) {
			b.SetBytes(size)
			for b.Loop() {
				// A registry that has the layer already would throw it away.
				b.StopTimer()
				options := newOptions(b, dvcrtest.Start(b), sparseDisk(size), tc.checksums...)
				b.StartTimer()
				if _, err := Run(context.Background(), options); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// download is curl with a sync.
func download(b *testing.B, url, path string) {
	b.Helper()
	response, err := http.Get(url)
	if err != nil {
		b.Fatal(err)
	}
	defer response.Body.Close()
	to, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer to.Close()
	if _, err := io.CopyBuffer(onlyWriter{to}, response.Body, make([]byte, 256<<10)); err != nil {
		b.Fatal(err)
	}
	if err := to.Sync(); err != nil {
		b.Fatal(err)
	}
}

// diskReader gives the bytes that sparseDisk serves.
func diskReader(size int64) io.Reader {
	pipe, writer := io.Pipe()
	go func() {
		sparseDisk(size)(pipeResponse{writer}, nil)
		writer.Close()
	}()
	return pipe
}

type pipeResponse struct{ io.Writer }

func (pipeResponse) Header() http.Header { return http.Header{} }
func (pipeResponse) WriteHeader(int)     {}
