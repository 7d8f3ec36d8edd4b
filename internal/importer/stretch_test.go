// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// counting counts the requests of a method to the registry's uploads. The image's
// configuration takes one, too.
func counting(method string, count *atomic.Int32) func(http.Handler) http.Handler {
	return func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == method && strings.Contains(r.URL.Path, "/uploads/") {
				count.Add(1)
			}
			next.ServeHTTP(w, r)
		})
	}
}

// gated is an image of which the rest comes when a gate is opened.
type gated struct {
	content []byte
	shut    int
	gate    <-chan struct{}
	opened  atomic.Int32
}

// Open implements source.Source.
func (g *gated) Open(ctx context.Context) (source.Stream, error) {
	g.opened.Add(1)
	return &gatedStream{gated: g, ctx: ctx}, nil
}

type gatedStream struct {
	*gated
	ctx context.Context
	at  int
}

func (s *gatedStream) Read(p []byte) (int, error) {
	end := s.shut
	if s.at >= s.shut {
		select {
		case <-s.gate:
		case <-s.ctx.Done():
			return 0, s.ctx.Err()
		}
		end = len(s.content)
	}
	if s.at == len(s.content) {
		return 0, io.EOF
	}
	n := copy(p, s.content[s.at:end])
	s.at += n
	return n, nil
}

func (s *gatedStream) Close() error      { return nil }
func (s *gatedStream) Size() int64       { return int64(len(s.content)) }
func (s *gatedStream) Received() int64   { return int64(s.at) }
func (s *gatedStream) Validator() string { return "v1" }

// The chunks of a request that is under way are made durable, and become checkpoints,
// before it has an end.
func TestChunksAreSettledBesideTheirRequest(t *testing.T) {
	raw := rawDisk()
	var patches atomic.Int32
	registry := dvcrtest.Start(t, counting(http.MethodPatch, &patches))
	settled := make(chan struct{})
	k := &killable{registry: registry, stateDir: t.TempDir()}
	k.adjust = func(o *Options) { o.Source = &gated{content: raw, shut: 9*chunk + 1000, gate: settled} }
	var offsets []int64
	k.atCheckpoint = func(c report.Checkpoint, _ func()) {
		if offsets = append(offsets, c.Offset); c.Offset == 8*chunk {
			if n := patches.Load(); n != 1 {
				t.Errorf("settled after %d requests", n)
			}
			close(settled)
		}
	}
	result, err := k.run(t)
	if err != nil {
		t.Fatal(err)
	}
	if want := digestOf(t, file(raw)); result.Digest != want || patches.Load() != 2 {
		t.Errorf("%s, want %s; %d requests", result.Digest, want, patches.Load())
	}
	// All but the last are of whole chunks in their order.
	for i, offset := range offsets[:len(offsets)-1] {
		if offset != int64(i+1)*chunk {
			t.Errorf("checkpoints at %d", offsets)
			break
		}
	}
}

// No request is so long that a registry that wants to stop waits for ever.
func TestLongImagesTakeSeveralRequests(t *testing.T) {
	raw := make([]byte, 2*stretchChunks*chunk+5*chunk+700)
	copy(raw[510:], "\x55\xaa")
	for _, tc := range []struct {
		size, requests int
	}{
		{chunk, 2}, {stretchChunks * chunk, 2}, {stretchChunks*chunk + 4096, 3}, {len(raw), 4},
	} {
		var patches atomic.Int32
		registry := dvcrtest.Start(t, counting(http.MethodPatch, &patches))
		options := newOptions(t, registry, file(raw[:tc.size]))
		options.ChunkSize = chunk
		if _, err := Run(context.Background(), options); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(pull(t, registry).disk, raw[:tc.size]) {
			t.Errorf("%d bytes: another disk", tc.size)
		}
		if int(patches.Load()) != tc.requests {
			t.Errorf("%d bytes: %d requests, want %d", tc.size, patches.Load(), tc.requests)
		}
	}
}

// A registry that cannot say what it has may have nothing: the request ends, and what
// is missing is sent again. The source is not asked for it.
func TestRegistryCannotSayWhatItHas(t *testing.T) {
	raw := rawDisk()
	var asked atomic.Int32
	refused := make(chan struct{})
	registry := dvcrtest.Start(t, func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodGet && strings.Contains(r.URL.Path, "/uploads/") {
				switch asked.Add(1) {
				case 1:
					defer close(refused)
					fallthrough
				case 2:
					w.WriteHeader(http.StatusBadGateway)
					return
				}
			}
			next.ServeHTTP(w, r)
		})
	})
	from := &gated{content: raw, shut: 9 * chunk, gate: refused}
	options := newOptions(t, registry, file(nil))
	options.Source = from
	options.ChunkSize, options.RegistryPatience = chunk, 20*time.Second
	result, err := Run(context.Background(), options)
	if err != nil {
		t.Fatal(err)
	}
	if want := digestOf(t, file(raw)); result.Digest != want || asked.Load() < 3 || from.opened.Load() != 1 {
		t.Errorf("%s, want %s; the registry was asked %d times, the source %d", result.Digest, want, asked.Load(), from.opened.Load())
	}
}

// newTestBody is the body of a layer whose source gives the content and then ends.
func newTestBody(t *testing.T, content []byte, size int, ending error) *body {
	t.Helper()
	window, err := stream.NewWindow(io.MultiReader(bytes.NewReader(content), iotest.ErrReader(ending)),
		stream.WindowOptions{Every: chunk, Capacity: 8 * chunk})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		window.Close()
		window.Wait()
	})
	s := &sender{pass: &pass{window: window}, size: int64(size), head: []byte("head"), tail: []byte("tail")}
	b := s.newBody(int64(size+8), func(error) {})
	t.Cleanup(b.stop)
	return b
}

// However it is read, a body gives the whole layer, and ends like one when its source
// fails. What the connection fails with is not the source's fault.
func TestBody(t *testing.T) {
	content := rawDisk()[:chunk+1000]
	broken := errors.New("broken")
	for _, tc := range []struct {
		title  string
		size   int
		ending error
		want   string
	}{
		{"whole", chunk + 1000, io.EOF, "head" + string(content) + "tail"},
		{"source broke", chunk + 2000, broken, "head" + string(content)},
	} {
		for how, read := range map[string]func(*body, io.Writer) error{
			"WriteTo": func(b *body, out io.Writer) error { _, err := b.WriteTo(out); return err },
			"Read":    func(b *body, out io.Writer) error { _, err := io.Copy(out, struct{ io.Reader }{b}); return err },
		} {
			var out bytes.Buffer
			b := newTestBody(t, content, tc.size, tc.ending)
			if err := read(b, &out); err != nil || out.String() != tc.want {
				t.Errorf("%s, %s: %d bytes, %v", tc.title, how, out.Len(), err)
			}
			want := error(nil)
			if errors.Is(tc.ending, broken) {
				want = broken
			}
			if got := b.failure(); !errors.Is(got, want) {
				t.Errorf("%s, %s: failed with %v", tc.title, how, got)
			}
			if got := b.passed.Load(); got != int64(out.Len()) {
				t.Errorf("%s, %s: %d of %d bytes counted", tc.title, how, got, out.Len())
			}
		}
	}
	b := newTestBody(t, content, len(content), io.EOF)
	if _, err := b.WriteTo(writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) || b.failure() != nil {
		t.Errorf("the connection broke: %v, the source %v", err, b.failure())
	}
}
