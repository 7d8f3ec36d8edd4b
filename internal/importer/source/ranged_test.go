// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

func openRanged(t *testing.T, options HTTPOptions) (ReaderAt, error) {
	t.Helper()
	source, err := NewHTTP(options)
	if err != nil {
		t.Fatal(err)
	}
	opened, err := source.OpenRanged(context.Background())
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { opened.Close() })
	return opened, nil
}

func TestReadAtRandom(t *testing.T) {
	var connections sync.Map
	opened, err := openRanged(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		connections.Store(r.RemoteAddr, true)
		serve(w, r)
	}))
	if err != nil {
		t.Fatal(err)
	}
	if opened.Size() != 3<<20 || opened.Validator() != `"v1"` {
		t.Errorf("size %d, validator %s", opened.Size(), opened.Validator())
	}
	for _, tc := range []struct {
		offset, length, want int
		err                  error
	}{
		{0, 1, 1, nil}, {1 << 20, 2 << 20, 2 << 20, nil}, {3<<20 - 1, 1, 1, nil}, {3<<20 - 5, 10, 5, io.EOF},
		{3 << 20, 1, 0, io.EOF}, {1 << 40, 1, 0, io.EOF}, {7, 0, 0, nil},
	} {
		p := make([]byte, tc.length)
		n, err := opened.ReadAt(p, int64(tc.offset))
		if n != tc.want || !errors.Is(err, tc.err) {
			t.Errorf("%d bytes at %d: %d, %v", tc.length, tc.offset, n, err)
		}
		if n > 0 && !bytes.Equal(p[:n], content[tc.offset:tc.offset+n]) {
			t.Errorf("%d bytes at %d: other bytes", tc.length, tc.offset)
		}
	}
	if _, err := opened.ReadAt(make([]byte, 1), -1); err == nil {
		t.Error("a negative offset is read")
	}
	if opened.Received() != 1+(2<<20)+1+5 {
		t.Errorf("received %d", opened.Received())
	}
	used := 0
	connections.Range(func(any, any) bool { used++; return true })
	if used != 1 {
		t.Errorf("%d connections for reads one after another", used)
	}
}

func TestReadAtRandomFromManyGoroutines(t *testing.T) {
	opened, err := openRanged(t, start(t, serve))
	if err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	for i := range 16 {
		group.Go(func() {
			p := make([]byte, 100_000)
			if _, err := opened.ReadAt(p, int64(i)*100_000); err != nil || !bytes.Equal(p, content[i*100_000:(i+1)*100_000]) {
				t.Errorf("part %d: %v", i, err)
			}
		})
	}
	group.Wait()
}

func TestNotRanged(t *testing.T) {
	answer := func(status int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			for _, line := range header {
				name, value, _ := strings.Cut(line, ": ")
				w.Header().Set(name, value)
			}
			w.WriteHeader(status)
			_, _ = w.Write([]byte("x"))
		}
	}
	for title, handler := range map[string]http.HandlerFunc{
		"server without ranges": func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) },
		"empty image":           answer(416, `ETag: "v1"`, "Content-Range: bytes */0"),
		"no validator":          answer(206, "Content-Range: bytes 0-0/10"),
		"weak validator":        answer(206, `ETag: W/"v1"`, "Content-Range: bytes 0-0/10"),
		"no Content-Range":      answer(206, `ETag: "v1"`),
		"no total":              answer(206, `ETag: "v1"`, "Content-Range: bytes 0-0/*"),
		"another range":         answer(206, `ETag: "v1"`, "Content-Range: bytes 1-1/10"),
		"more than asked for":   answer(206, `ETag: "v1"`, "Content-Range: bytes 0-1/10", "Content-Length: 2"),
		"encoded":               answer(206, `ETag: "v1"`, "Content-Range: bytes 0-0/10", "Content-Encoding: gzip"),
	} {
		t.Run(title, func(t *testing.T) {
			if _, err := openRanged(t, start(t, handler)); !errors.Is(err, ErrNotRanged) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestRangedFailures(t *testing.T) {
	_, err := openRanged(t, start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }))
	wantError(t, err, "SourceNotFound", true, "url", "404")
	_, err = openRanged(t, start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) }))
	wantError(t, err, "SourceUnreachable", false, "url", "503")
}

// behindProbe serves the first request well and the others by the handler.
func behindProbe(handler http.HandlerFunc) http.HandlerFunc {
	var requests atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			serve(w, r)
			return
		}
		handler(w, r)
	}
}

func TestReadAtContinues(t *testing.T) {
	var requests atomic.Int32
	opened, err := openRanged(t, start(t, behindProbe(func(w http.ResponseWriter, r *http.Request) {
		if n := requests.Add(1); n <= 2 {
			serve(&truncatingWriter{ResponseWriter: w, left: 1 << 19}, r)
			panic(http.ErrAbortHandler)
		}
		serve(w, r)
	})))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 2<<20)
	if _, err := opened.ReadAt(p, 1<<20); err != nil || !bytes.Equal(p, content[1<<20:]) {
		t.Fatal(err)
	}
	if opened.Received() != 2<<20 {
		t.Errorf("received %d bytes: some came twice", opened.Received())
	}
}

// A server may give less than asked for, as long as it says so.
func TestReadAtOfAShortAnswer(t *testing.T) {
	opened, err := openRanged(t, start(t, behindProbe(func(w http.ResponseWriter, r *http.Request) {
		var first int
		_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, first+9, len(content)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(content[first : first+10])
	})))
	if err != nil {
		t.Fatal(err)
	}
	p := make([]byte, 100)
	if _, err := opened.ReadAt(p, 5); err != nil || !bytes.Equal(p, content[5:105]) {
		t.Fatal(err)
	}
}

func TestReadAtOfAChangedImage(t *testing.T) {
	for title, handler := range map[string]http.HandlerFunc{
		"whole image":         func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) },
		"shorter":             func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) },
		"precondition failed": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPreconditionFailed) },
		"ETag of another": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("ETag", `"v2"`)
			w.Header().Set("Content-Range", "bytes 0-9/3145728")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[:10])
		},
		"another size": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 0-9/3145729")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[:10])
		},
	} {
		t.Run(title, func(t *testing.T) {
			opened, err := openRanged(t, start(t, behindProbe(handler)))
			if err != nil {
				t.Fatal(err)
			}
			var changed *ChangedError
			if _, err := opened.ReadAt(make([]byte, 10), 0); !errors.As(err, &changed) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestReadAtNoticesAStall(t *testing.T) {
	opened, err := openRanged(t, start(t, behindProbe(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Range", "bytes 0-9/3145728")
		w.WriteHeader(http.StatusPartialContent)
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})))
	if err != nil {
		t.Fatal(err)
	}
	_, err = opened.ReadAt(make([]byte, 10), 0)
	wantError(t, err, "SourceUnreachable", false, "url", "sent only 0 bytes")
}

func TestCloseEndsReads(t *testing.T) {
	patient := start(t, behindProbe(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	patient.HeaderTimeout = time.Minute
	opened, err := openRanged(t, patient)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { opened.Close() })
	if _, err := opened.ReadAt(make([]byte, 10), 0); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}

func TestOpenAt(t *testing.T) {
	for _, tc := range []struct {
		title     string
		offset    int64
		validator string
		handler   http.HandlerFunc
		changed   string
	}{
		{"beginning", 0, `"v1"`, serve, ""},
		{"beginning of another", 0, `"v0"`, serve, "another"},
		{"middle", 1 << 20, `"v1"`, serve, ""},
		{"end", 3 << 20, `"v1"`, serve, ""},
		{"middle of another", 1 << 20, `"v0"`, serve, "changed"},
		{"end of another", 3 << 20, `"v0"`, serve, "changed"},
		{"behind the end", 4 << 20, `"v1"`, serve, "no longer that long"},
		{"without a validator", 1 << 20, "", serve, "ETag"},
		{"server that ignores If-Range", 1 << 20, `"v0"`, func(w http.ResponseWriter, r *http.Request) {
			r.Header.Del("If-Range")
			serve(w, r)
		}, "another image"},
		{"lengths that contradict each other", 1 << 20, `"v1"`, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", "bytes 1048576-3145727/3145728")
			w.Header().Set("Content-Length", "10")
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[:10])
		}, "contradict"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			source, err := NewHTTP(start(t, tc.handler))
			if err != nil {
				t.Fatal(err)
			}
			stream, err := source.OpenAt(context.Background(), tc.offset, tc.validator)
			if tc.changed != "" {
				var changed *ChangedError
				if !errors.As(err, &changed) || !strings.Contains(err.Error(), tc.changed) {
					t.Errorf("got %v, want it to mention %q", err, tc.changed)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			got, err := io.ReadAll(stream)
			if err != nil || !bytes.Equal(got, content[tc.offset:]) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
			if stream.Size() != 3<<20 || stream.Validator() != `"v1"` {
				t.Errorf("size %d, validator %s", stream.Size(), stream.Validator())
			}
		})
	}
}
