// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
	"github.com/deckhouse/virtualization/internal/importer/progress"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// restartable is a registry whose process can be exchanged: requests under way
// break, new ones are refused until it is back.
type restartable struct {
	traffic
	current atomic.Pointer[http.Handler]
	down    atomic.Bool
	// breakAt breaks the registry when it has taken so many bytes.
	breakAt int64
	breaks  atomic.Int32
}

func (r *restartable) wrap(next http.Handler) http.Handler {
	r.current.Store(&next)
	counted := r.registry(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		(*r.current.Load()).ServeHTTP(w, request)
	}))
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.down.Load() {
			panic(http.ErrAbortHandler)
		}
		counted.ServeHTTP(w, withBody(request, &fusedBody{request.Body, r.left(), r.interrupt}))
		if r.down.Load() {
			panic(http.ErrAbortHandler) // The answer is lost with the process.
		}
	})
}

func (r *restartable) left() *atomic.Int64 {
	var left atomic.Int64
	left.Store(r.breakAt - r.toRegistry.Load())
	return &left
}

func (r *restartable) interrupt() {
	if r.breaks.CompareAndSwap(0, 1) {
		r.down.Store(true)
		panic(http.ErrAbortHandler)
	}
}

// A registry that is restarted in the middle costs one chunk at most, and the
// source is not asked again for anything.
func TestRegistryIsRestarted(t *testing.T) {
	raw := rawDisk()
	want := digestOf(t, file(raw))
	for _, breakAt := range []int64{1, chunk - 1, chunk + 2000, 3*chunk + 100_000, int64(len(raw))} {
		away := &restartable{breakAt: breakAt}
		registry := dvcrtest.Start(t, away.wrap)
		ctx, cancel := context.WithCancel(context.Background())
		t.Cleanup(cancel)
		go func() {
			for !away.down.Load() {
				time.Sleep(time.Millisecond)
			}
			// A new process knows nothing but its files and its secret.
			next, err := server.NewHandler(ctx, server.Options{Root: registry.Root, Verifier: registry.Verifier, HTTPSecret: "test"})
			if err != nil {
				t.Error(err)
				return
			}
			time.Sleep(100 * time.Millisecond)
			away.current.Store(&next)
			away.down.Store(false)
		}()
		options := newOptions(t, registry, away.source(file(raw)), sha256Of(raw))
		options.ChunkSize, options.RegistryPatience = chunk, 20*time.Second
		options.Status = &progress.Status{}
		result, err := Run(context.Background(), options)
		if err != nil {
			t.Fatalf("broken at %d: %v", breakAt, err)
		}
		if got := pull(t, registry); result.Digest != want || !bytes.Equal(got.disk, raw) {
			t.Errorf("broken at %d: another image", breakAt)
		}
		if away.breaks.Load() != 1 {
			t.Errorf("broken at %d: never", breakAt)
		}
		if sent, most := away.toRegistry.Load(), int64(len(raw)+4096+chunk+1<<20); sent > most {
			t.Errorf("broken at %d: the registry was sent %d bytes, more than %d", breakAt, sent, most)
		}
		if away.requests.Load() != 1 {
			t.Errorf("broken at %d: the source was asked %d times", breakAt, away.requests.Load())
		}
		wantNoUploads(t, registry)
	}
}

// The registry is away while the layer is committed, after it was committed and
// while the manifest is written.
func TestRegistryIsAwayAtTheEnd(t *testing.T) {
	raw := rawDisk()
	want := digestOf(t, file(raw))
	for title, tc := range map[string]struct {
		method, part string
		served       bool
	}{
		"before the commit":        {http.MethodPut, "/blobs/uploads/", false},
		"after the commit":         {http.MethodPut, "/blobs/uploads/", true},
		"before the manifest":      {http.MethodPut, "/manifests/", false},
		"after the manifest":       {http.MethodPut, "/manifests/", true},
		"before the first request": {http.MethodGet, "/v2/", false},
		"after a chunk":            {http.MethodPatch, "/blobs/uploads/", true},
	} {
		t.Run(title, func(t *testing.T) {
			var failed atomic.Bool
			registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Method == tc.method && bytes.Contains([]byte(r.URL.Path), []byte(tc.part)) && failed.CompareAndSwap(false, true) {
						if tc.served {
							next.ServeHTTP(discarded{w.Header()}, r)
						}
						panic(http.ErrAbortHandler)
					}
					next.ServeHTTP(w, r)
				})
			})
			options := newOptions(t, registry, file(raw))
			options.ChunkSize, options.RegistryPatience = chunk, 20*time.Second
			result, err := Run(context.Background(), options)
			if err != nil {
				t.Fatal(err)
			}
			if result.Digest != want || !failed.Load() {
				t.Errorf("digest %s, want %s; failed %t", result.Digest, want, failed.Load())
			}
		})
	}
}

// discarded is an answer that nobody gets.
type discarded struct{ header http.Header }

func (d discarded) Header() http.Header         { return d.header }
func (d discarded) Write(p []byte) (int, error) { return len(p), nil }
func (d discarded) WriteHeader(int)             {}

// A registry that stays away ends the import, and what it has is kept for the
// next importer if there will be one.
func TestRegistryStaysAway(t *testing.T) {
	var down atomic.Bool
	registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if down.Load() {
				w.WriteHeader(http.StatusBadGateway)
				return
			}
			next.ServeHTTP(w, r)
		})
	})
	k := &killable{registry: registry, handler: file(rawDisk()), stateDir: t.TempDir()}
	k.adjust = func(o *Options) { o.RegistryPatience = 600 * time.Millisecond }
	k.atCheckpoint = func(report.Checkpoint, func()) { down.Store(true) }
	_, err := k.run(t)
	wantFailure(t, err, "RegistryUnavailable", false, "", "502")
	told, _ := k.lastStatus.Sample()
	if told.Phase != report.PhaseWaiting || told.RetryAt == nil || told.Attempts != 1 {
		t.Errorf("status %+v", told)
	}
	down.Store(false)
	k.atCheckpoint = nil
	if _, err := k.run(t); err != nil {
		t.Fatal(err)
	}
	if told, _ := k.lastStatus.Sample(); told.Attempts != 2 || told.Phase != report.PhasePublishing {
		t.Errorf("status %+v", told)
	}
}

// A source that fails for a while is asked again from where the image is
// durable, and every attempt is counted.
func TestSourceIsAwayForAWhile(t *testing.T) {
	raw := rawDisk()
	var requests atomic.Int32
	var resumedAt atomic.Pointer[string]
	registry := dvcrtest.Start(t)
	k := &killable{registry: registry, sums: []string{sha256Of(raw)}, stateDir: t.TempDir()}
	k.handler = func(w http.ResponseWriter, r *http.Request) {
		switch n := requests.Add(1); {
		case n == 1:
			w.Header().Set("ETag", `"v1"`)
			w.Header().Set("Content-Length", "5244416")
			_, _ = w.Write(raw[:4_700_000])
			panic(http.ErrAbortHandler)
		case n <= 9:
			w.WriteHeader(http.StatusServiceUnavailable)
		default:
			asked := r.Header.Get("Range")
			resumedAt.CompareAndSwap(nil, &asked)
			w.Header().Set("ETag", `"v1"`)
			http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(raw))
		}
	}
	k.adjust = func(o *Options) { o.Retries, o.RetryDelay = 3, time.Millisecond }
	result, err := k.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if want := digestOf(t, file(raw)); result.Digest != want {
		t.Errorf("%s, want %s", result.Digest, want)
	}
	if asked := *resumedAt.Load(); asked != "bytes=4194304-" {
		t.Errorf("asked for %s", asked)
	}
	if told, _ := k.lastStatus.Sample(); told.Attempts != 3 {
		t.Errorf("%d attempts", told.Attempts)
	}
	requests.Store(1)
	k.stateDir = t.TempDir()
	k.handler = func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }
	_, err = k.run(t)
	wantFailure(t, err, "SourceUnreachable", false, "spec.dataSource.http.url", "503")
	if told, _ := k.lastStatus.Sample(); told.Attempts != 4 {
		t.Errorf("%d attempts", told.Attempts)
	}
}
