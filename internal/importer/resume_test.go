// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/progress"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

const chunk = 2 * stream.WindowUnit

// killable is an importer in a pod that may be killed: its state directory is
// all that the next one gets.
type killable struct {
	registry *dvcrtest.Registry
	handler  http.HandlerFunc
	sums     []string
	stateDir string
	// atCheckpoint is called with each checkpoint and the way to kill.
	atCheckpoint func(c report.Checkpoint, kill func())
	adjust       func(*Options)
	lastStatus   *progress.Status
}

func (k *killable) run(t testing.TB) (*report.Result, error) {
	t.Helper()
	ctx, kill := context.WithCancel(context.Background())
	defer kill()
	return k.runIn(ctx, t, kill)
}

func (k *killable) runIn(ctx context.Context, t testing.TB, kill func()) (*report.Result, error) {
	t.Helper()
	options := newOptions(t, k.registry, k.handler, k.sums...)
	options.ChunkSize = chunk
	options.Status = &progress.Status{}
	k.lastStatus = options.Status
	checkpoints, resume := progress.Load("the order", k.stateDir, "", options.Status, options.Logger)
	options.Resume = resume
	options.Save = func(c report.Checkpoint) {
		checkpoints.Save(c)
		if k.atCheckpoint != nil {
			k.atCheckpoint(c, kill)
		}
	}
	options.Retried = checkpoints.Attempt
	if k.adjust != nil {
		k.adjust(&options)
	}
	// The next one is not to find the registry at work for this one.
	defer k.registry.Idle()
	return Run(ctx, options)
}

// traffic counts what the registry is sent and what the source sends.
type traffic struct {
	toRegistry, fromSource atomic.Int64
	requests               atomic.Int32
}

func (c *traffic) registry(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPatch {
			r = withBody(r, &countedBody{r.Body, &c.toRegistry})
		}
		next.ServeHTTP(w, r)
	})
}

// withBody is the request with another body. The server goes by its own one when it
// decides whether it still has to ask for it.
func withBody(r *http.Request, body io.ReadCloser) *http.Request {
	r = r.WithContext(r.Context())
	r.Body = body
	return r
}

type countedBody struct {
	io.ReadCloser
	count *atomic.Int64
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	b.count.Add(int64(n))
	return n, err
}

func (c *traffic) source(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		c.requests.Add(1)
		next(&countedWriter{w, &c.fromSource}, r)
	}
}

type countedWriter struct {
	http.ResponseWriter
	count *atomic.Int64
}

// Flush implements http.Flusher.
func (w *countedWriter) Flush() { w.ResponseWriter.(http.Flusher).Flush() }

func (w *countedWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.count.Add(int64(n))
	return n, err
}

// digestOf imports without any trouble and returns the image's digest.
func digestOf(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	result, err := Run(context.Background(), newOptions(t, dvcrtest.Start(t), handler))
	if err != nil {
		t.Fatal(err)
	}
	return result.Digest
}

// An importer that is killed after any of its checkpoints, the one before the
// layer is committed included, costs no more than one chunk.
func TestKilledImporterGoesOn(t *testing.T) {
	raw := rawDisk()
	want := digestOf(t, file(raw))
	chunks := (len(raw) + chunk - 1) / chunk
	for killed := 1; killed <= chunks; killed++ {
		t.Run(fmt.Sprintf("after checkpoint %d of %d", killed, chunks), func(t *testing.T) {
			var counted traffic
			registry := dvcrtest.Start(t, counted.registry)
			k := &killable{registry: registry, handler: counted.source(file(raw)), sums: []string{sha256Of(raw)}, stateDir: t.TempDir()}
			seen := 0
			k.atCheckpoint = func(_ report.Checkpoint, kill func()) {
				if seen++; seen == killed {
					kill()
				}
			}
			_, err := k.run(t)
			wantFailure(t, err, "Internal", false, "", "interrupted")
			wantNoImage(t, registry)
			sent := counted.toRegistry.Load()
			k.atCheckpoint = nil
			result, err := k.run(t)
			if err != nil {
				t.Fatal(err)
			}
			if got := pull(t, registry); result.Digest != want || got.digest != want || !bytes.Equal(got.disk, raw) {
				t.Errorf("another image: %s, want %s", result.Digest, want)
			}
			layer := int64(len(raw) + 4096)
			if total := counted.toRegistry.Load(); total > layer+chunk || total-sent > layer-int64(min(killed*chunk, len(raw)))+chunk {
				t.Errorf("the registry was sent %d bytes after %d, the layer has %d", total-sent, sent, layer)
			}
			wantNoUploads(t, registry)
		})
	}
}

// A kill at any moment: in the middle of a chunk, while the blob is committed,
// before the manifest is there. In the end there is the same image.
func TestImporterKilledAnywhere(t *testing.T) {
	raw := rawDisk()
	want := digestOf(t, file(raw))
	random := rand.New(rand.NewPCG(1, 2))
	for round := range 12 {
		t.Run(fmt.Sprint(round), func(t *testing.T) {
			var kill atomic.Pointer[func()]
			var left atomic.Int64
			registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					// Every request counts like some bytes, so that those without a body
					// are killed in, too.
					if left.Add(-chunk/4) < 0 {
						(*kill.Load())()
					}
					next.ServeHTTP(w, withBody(r, &fusedBody{r.Body, &left, *kill.Load()}))
				})
			})
			k := &killable{registry: registry, handler: file(raw), sums: []string{sha256Of(raw)}, stateDir: t.TempDir()}
			var result *report.Result
			for attempt := 0; result == nil; attempt++ {
				if attempt > 60 {
					t.Fatal("no end")
				}
				ctx, cancel := context.WithCancel(context.Background())
				stop := func() { cancel() }
				kill.Store(&stop)
				left.Store(random.Int64N(int64(len(raw))) + 3*chunk)
				result, _ = k.runIn(ctx, t, cancel)
				cancel()
			}
			if got := pull(t, registry); got.digest != want || result.Digest != want {
				t.Errorf("another image: %s, want %s", result.Digest, want)
			}
		})
	}
}

// fusedBody kills when enough has passed.
type fusedBody struct {
	io.ReadCloser
	left *atomic.Int64
	kill func()
}

func (b *fusedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if b.left.Add(-int64(n)) < 0 {
		b.kill()
	}
	return n, err
}

// What cannot be continued is read once more, but the registry is sent only what
// it lacks.
func TestKilledImporterOfACompressedImage(t *testing.T) {
	raw := rawDisk()
	for title, packed := range map[string][]byte{"gzip": gzipped(t, raw), "zstd": zstded(t, raw)} {
		t.Run(title, func(t *testing.T) {
			var counted traffic
			registry := dvcrtest.Start(t, counted.registry)
			k := &killable{registry: registry, handler: file(packed), sums: []string{sha256Of(packed)}, stateDir: t.TempDir()}
			seen := 0
			k.atCheckpoint = func(_ report.Checkpoint, kill func()) {
				if seen++; seen == 5 {
					kill()
				}
			}
			if _, err := k.run(t); err == nil {
				t.Fatal("not killed")
			}
			k.atCheckpoint = nil
			result, err := k.run(t)
			if err != nil {
				t.Fatal(err)
			}
			if want := digestOf(t, file(raw)); result.Digest != want {
				t.Errorf("%s, want %s", result.Digest, want)
			}
			if total, most := counted.toRegistry.Load(), int64(len(raw)+4096+chunk); total > most {
				t.Errorf("the registry was sent %d bytes, more than %d", total, most)
			}
		})
	}
}

// Whatever makes a checkpoint worthless, the image is begun anew and becomes
// what it should be.
func TestWorthlessCheckpoints(t *testing.T) {
	raw := rawDisk()
	other := bytes.Clone(raw)
	other[3<<20]++
	for _, tc := range []struct {
		title  string
		before http.HandlerFunc
		after  http.HandlerFunc
		spoil  func(t *testing.T, k *killable)
	}{
		{"image changed", file(other), file(raw), nil},
		{"image changed its length", file(other[:4<<20]), file(raw), nil},
		{"no validator", without(raw), without(raw), nil},
		{"no ranges", unranged(raw), unranged(raw), nil},
		{"registry threw the upload away", file(raw), file(raw), func(t *testing.T, k *killable) {
			uploads := filepath.Join(k.registry.Root, "docker/registry/v2/repositories", repository, "_uploads")
			if err := os.RemoveAll(uploads); err != nil {
				t.Fatal(err)
			}
		}},
		{"registry lost the end", file(raw), file(raw), func(t *testing.T, k *killable) {
			truncateUpload(t, k.registry, chunk)
		}},
		{"registry has other bytes", file(raw), file(raw), func(t *testing.T, k *killable) { scribble(t, k.registry) }},
		{"broken file", file(raw), file(raw), spoilWith(func(string) string { return "{" })},
		{"another sink's", file(raw), file(raw), spoilWith(func(s string) string { return strings.ReplaceAll(s, `virtualSize`, `x`) })},
		{"no hashes", file(raw), file(raw), spoilWith(func(s string) string { return strings.ReplaceAll(s, `"layer"`, `"x"`) })},
		{"broken hashes", file(raw), file(raw), spoilWith(func(s string) string { return strings.ReplaceAll(s, `"layer":"`, `"layer":"AAAA`) })},
		{"odd offset", file(raw), file(raw), spoilWith(func(s string) string {
			return strings.ReplaceAll(s, fmt.Sprintf(`"offset":%d`, 3*chunk), `"offset":17`)
		})},
		{"foreign upload", file(raw), file(raw), spoilWith(func(s string) string { return strings.ReplaceAll(s, repository, "vi/team/other") })},
	} {
		t.Run(tc.title, func(t *testing.T) {
			registry := dvcrtest.Start(t)
			k := &killable{registry: registry, handler: tc.before, stateDir: t.TempDir()}
			seen := 0
			k.atCheckpoint = func(_ report.Checkpoint, kill func()) {
				if seen++; seen == 3 {
					kill()
				}
			}
			if _, err := k.run(t); err == nil {
				t.Fatal("not killed")
			}
			if tc.spoil != nil {
				tc.spoil(t, k)
			}
			k.atCheckpoint, k.handler = nil, tc.after
			result, err := k.run(t)
			if err != nil {
				t.Fatal(err)
			}
			if got := pull(t, registry); !bytes.Equal(got.disk, raw) || got.digest != result.Digest {
				t.Error("the image in the registry is another")
			}
		})
	}
}

// without serves ranges and no validator.
func without(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		http.ServeContent(w, r, "disk.img", time.Time{}, bytes.NewReader(content))
	}
}

// unranged knows no ranges.
func unranged(content []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del("Range")
		file(content)(w, r)
	}
}

func uploadFile(t *testing.T, registry *dvcrtest.Registry) string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(registry.Root, "docker/registry/v2/repositories", repository, "_uploads/*/data"))
	if err != nil || len(found) != 1 {
		t.Fatalf("uploads %q, %v", found, err)
	}
	return found[0]
}

func truncateUpload(t *testing.T, registry *dvcrtest.Registry, size int64) {
	t.Helper()
	if err := os.Truncate(uploadFile(t, registry), size); err != nil {
		t.Fatal(err)
	}
}

// scribble changes what the registry has, and what it remembers of its digest.
func scribble(t *testing.T, registry *dvcrtest.Registry) {
	t.Helper()
	path := uploadFile(t, registry)
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	content[100_000]++
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(filepath.Dir(path), "hashstates")); err != nil {
		t.Fatal(err)
	}
}

// spoilWith changes the checkpoint's file.
func spoilWith(change func(string) string) func(*testing.T, *killable) {
	return func(t *testing.T, k *killable) {
		path := filepath.Join(k.stateDir, "checkpoint")
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		changed := change(string(content))
		if changed == string(content) {
			t.Fatalf("nothing to change in %s", content)
		}
		if err := os.WriteFile(path, []byte(changed), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

func FuzzResumeFromACheckpoint(f *testing.F) {
	f.Add(`{"format":"raw","virtualSize":1}`, "/v2/vi/team/debian/blobs/uploads/1?_state=x", int64(0), int64(1), []byte("x"))
	f.Add(`{"format":"raw","virtualSize":1,"digest":"sha256:00"}`, "", int64(5), int64(1), []byte(nil))
	f.Add(`[]`, "http://[", int64(-1), int64(-1), []byte("sha\x03"))
	f.Fuzz(func(t *testing.T, sink, upload string, offset, size int64, state []byte) {
		c := &report.Checkpoint{Order: "x", Sink: sink, Upload: upload, Offset: offset, Size: size, Hashes: map[string][]byte{"layer": state}}
		read, digest, err := layerStateOf(c)
		started := !read.Parking && (read.Parked == "" || read.Format != "")
		if err == nil && started && (read.Format == "" || read.VirtualSize <= 0 || c.Offset > c.Size || (read.Digest != "") != (digest.Hex != "")) {
			t.Fatalf("accepted %+v", c)
		}
		layer, _ := newHashes(nil)
		if restore(c, layerHash, layer) == nil {
			layer.Write([]byte("x"))
			layer.Sum(nil)
		}
	})
}
