// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
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
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodPatch {
			next.ServeHTTP(w, r)
			return
		}
		_, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r.Body, make([]byte, 256<<10))
		// The layer is then missing, which ends the import; only its way here matters.
		w.WriteHeader(http.StatusInternalServerError)
	})
}

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

// The memory of an import does not grow with the image. The figures include the
// source's server and the registry, which run in the same process.
func TestMemoryIsFlat(t *testing.T) {
	registry := dvcrtest.Start(t, discardUploads)
	measure := func(size int64) uint64 {
		return peakHeap(func() {
			_, _ = Run(context.Background(), newOptions(t, registry, sparseDisk(size)))
		})
	}
	small, large := measure(16<<20), measure(1<<30)
	if large > small+16<<20 {
		t.Errorf("%d MiB of heap for 16 MiB, %d MiB for 1 GiB", small>>20, large>>20)
	}
	if large > 96<<20 {
		t.Errorf("%d MiB of heap", large>>20)
	}
}

// BenchmarkImport moves 256 MiB from an HTTP server into the registry's files,
// with and without a checksum beside the copy.
func BenchmarkImport(b *testing.B) {
	const size = 256 << 20
	sum := sha256.New()
	_, _ = io.CopyN(sum, diskReader(size), size)
	for title, checksums := range map[string][]string{"no checksum": nil, "sha256": {fmt.Sprintf("sha256:%x", sum.Sum(nil))}} {
		b.Run(title, func(b *testing.B) {
			registry := dvcrtest.Start(b)
			options := newOptions(b, registry, sparseDisk(size), checksums...)
			b.SetBytes(size)
			for b.Loop() {
				if _, err := Run(context.Background(), options); err != nil {
					b.Fatal(err)
				}
			}
		})
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
