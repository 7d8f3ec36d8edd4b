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
	"sync/atomic"
	"testing"
	"time"
)

func TestDroppedConnectionIsContinued(t *testing.T) {
	var ranges []string
	got, stream, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		ranges = append(ranges, r.Header.Get("Range")+" "+r.Header.Get("If-Range"))
		if len(ranges) == 1 {
			dropAfter(w, 1<<20)
		}
		serve(w, r)
	}))
	wantContent(t, got, err)
	if want := []string{" ", `bytes=1048576- "v1"`}; fmt.Sprint(ranges) != fmt.Sprint(want) {
		t.Errorf("asked for %q, want %q", ranges, want)
	}
	if stream.Received() != int64(len(content)) {
		t.Errorf("received %d bytes: some came twice", stream.Received())
	}
}

// As long as enough arrives in between, a connection may drop any number of
// times: the image is 3 MiB, so a drop after each MiB never adds up.
func TestManyDropsAreContinued(t *testing.T) {
	var requests atomic.Int32
	impatient := start(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) <= 2 {
			truncated := &truncatingWriter{ResponseWriter: w, left: 1<<20 + 10}
			serve(truncated, r)
			panic(http.ErrAbortHandler)
		}
		serve(w, r)
	})
	impatient.Attempts = 2
	got, _, err := read(t, impatient)
	wantContent(t, got, err)
}

// Nobody is kept waiting for several attempts that are slow to fail without being told
// why; one that fails at once is tried again in silence.
func TestSlowFirstContactIsNotRepeatedInSilence(t *testing.T) {
	for _, tc := range []struct {
		title string
		slow  time.Duration
		want  int32
	}{{"slow", 50 * time.Millisecond, 1}, {"quick", time.Minute, 4}} {
		t.Run(tc.title, func(t *testing.T) {
			var requests atomic.Int32
			options := start(t, func(http.ResponseWriter, *http.Request) {
				requests.Add(1)
				time.Sleep(200 * time.Millisecond)
			})
			options.HeaderTimeout, options.SlowContact = 100*time.Millisecond, tc.slow
			source, err := NewHTTP(options)
			if err != nil {
				t.Fatal(err)
			}
			for name, open := range map[string]func() error{
				"stream": func() error { _, err := source.Open(t.Context()); return err },
				"ranged": func() error { _, err := source.OpenRanged(t.Context()); return err },
			} {
				requests.Store(0)
				var failure *Error
				if err := open(); !errors.As(err, &failure) || failure.Reason != "SourceUnreachable" || requests.Load() != tc.want {
					t.Errorf("%s: %v after %d requests", name, err, requests.Load())
				}
			}
		})
	}
}

type truncatingWriter struct {
	http.ResponseWriter
	left int
}

func (w *truncatingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p[:min(len(p), w.left)])
	if w.left -= n; err == nil && n < len(p) {
		err = io.ErrShortWrite
	}
	return n, err
}

func TestWhatCannotBeContinued(t *testing.T) {
	partial := func(contentRange string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Range", contentRange)
			w.WriteHeader(http.StatusPartialContent)
			_, _ = w.Write(content[1<<20:])
		}
	}
	for _, tc := range []struct {
		title  string
		header http.Header
		rest   http.HandlerFunc
		why    string
	}{
		{"no validator", http.Header{}, serve, "ETag"},
		{"weak validator", http.Header{"Etag": {`W/"v1"`}}, serve, "ETag"},
		{"image changed", http.Header{"Etag": {`"v0"`}}, serve, "changed"},
		{"server without ranges", http.Header{"Etag": {etag}}, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(content) }, "ranges"},
		{"image became shorter", http.Header{"Etag": {etag}}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusRequestedRangeNotSatisfiable) }, "no longer that long"},
		{"precondition failed", http.Header{"Etag": {etag}}, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusPreconditionFailed) }, "no longer"},
		{"no Content-Range", http.Header{"Etag": {etag}}, partial(""), "Content-Range"},
		{"Content-Range of another unit", http.Header{"Etag": {etag}}, partial("lines 1048576-3145727/3145728"), "Content-Range"},
		{"Content-Range beyond arithmetic", http.Header{"Etag": {etag}}, partial("bytes 1048576-99999999999999999999/3145728"), "Content-Range"},
		{"another range", http.Header{"Etag": {etag}}, partial("bytes 0-3145727/3145728"), "another range"},
		{"range that runs backwards", http.Header{"Etag": {etag}}, partial("bytes 1048576-1/3145728"), "another range"},
		{"another size", http.Header{"Etag": {etag}}, partial("bytes 1048576-3145727/3145729"), "now has 3145729"},
	} {
		t.Run(tc.title, func(t *testing.T) {
			var requests atomic.Int32
			_, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
				if requests.Add(1) > 1 {
					tc.rest(w, r)
					return
				}
				for name, values := range tc.header {
					w.Header()[name] = values
				}
				w.Header().Set("Content-Length", fmt.Sprint(len(content)))
				_, _ = w.Write(content[:1<<20])
				panic(http.ErrAbortHandler)
			}))
			var changed *ChangedError
			if !errors.As(err, &changed) || !strings.Contains(err.Error(), tc.why) {
				t.Errorf("got %v, want it to mention %q", err, tc.why)
			}
		})
	}
}

func TestLastModifiedIsEnoughToContinue(t *testing.T) {
	modified := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var requests atomic.Int32
	got, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) == 1 {
			w.Header().Set("Last-Modified", modified.Format(http.TimeFormat))
			w.Header().Set("Content-Length", fmt.Sprint(len(content)))
			_, _ = w.Write(content[:1<<20])
			panic(http.ErrAbortHandler)
		}
		http.ServeContent(w, r, "disk.img", modified, bytes.NewReader(content))
	}))
	wantContent(t, got, err)
}

func TestErrorsWhileContinuing(t *testing.T) {
	for _, tc := range []struct {
		status    int
		reason    string
		permanent bool
	}{
		{404, "SourceNotFound", true},
		{401, "SourceUnauthorized", true},
		{503, "SourceUnreachable", false},
	} {
		var requests atomic.Int32
		_, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
			if requests.Add(1) == 1 {
				dropAfter(w, 1<<20)
			}
			w.WriteHeader(tc.status)
		}))
		wantError(t, err, tc.reason, tc.permanent, "url", fmt.Sprint(tc.status))
	}
}

// The server promises more than it has.
func TestLyingLength(t *testing.T) {
	_, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("ETag", etag)
		total := int64(len(content)) + 100
		if r.Header.Get("Range") != "" {
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", len(content), total-1, total))
			w.Header().Set("Content-Length", "100")
			w.WriteHeader(http.StatusPartialContent)
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
		w.Header().Set("Content-Length", fmt.Sprint(total))
		_, _ = w.Write(content)
		panic(http.ErrAbortHandler)
	}))
	wantError(t, err, "SourceUnreachable", false, "url", "of 3145828 bytes")
}

func TestStalledConnectionIsContinued(t *testing.T) {
	var requests atomic.Int32
	began := time.Now()
	got, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) > 1 {
			serve(w, r)
			return
		}
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:1<<20])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}))
	wantContent(t, got, err)
	if waited := time.Since(began); waited < 200*time.Millisecond || waited > 5*time.Second {
		t.Errorf("noticed after %s", waited)
	}
}

// A server that sends a byte now and then is as good as one that sends nothing.
func TestTricklingConnection(t *testing.T) {
	var requests atomic.Int32
	_, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		requests.Add(1)
		w.Header().Set("ETag", etag)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		if r.Header.Get("Range") != "" {
			var first int
			_, _ = fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-", &first)
			w.Header().Set("Content-Length", fmt.Sprint(len(content)-first))
			w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", first, len(content)-1, len(content)))
			w.WriteHeader(http.StatusPartialContent)
		}
		for r.Context().Err() == nil {
			_, _ = w.Write(content[:1])
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}))
	wantError(t, err, "SourceUnreachable", false, "url", "only")
	if requests.Load() != 4 {
		t.Errorf("%d requests", requests.Load())
	}
}

// A slow consumer is not a slow source.
func TestSlowConsumerIsNoStall(t *testing.T) {
	source, err := NewHTTP(start(t, serve))
	if err != nil {
		t.Fatal(err)
	}
	stream, err := source.Open(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var got bytes.Buffer
	for range 3 {
		time.Sleep(300 * time.Millisecond)
		if _, err := io.CopyN(&got, stream, 1<<20); err != nil {
			t.Fatal(err)
		}
	}
	wantContent(t, got.Bytes(), nil)
}

func TestReadEndsWithItsContext(t *testing.T) {
	patient := start(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content[:1<<20])
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	})
	patient.StallTimeout = time.Minute
	source, err := NewHTTP(patient)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := source.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, cancel)
	if _, err := io.ReadAll(stream); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	if err := stream.Close(); err != nil {
		t.Error(err)
	}
	if _, err := stream.Read(make([]byte, 1)); err == nil {
		t.Error("a closed stream can be read")
	}
}
