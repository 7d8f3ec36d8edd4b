// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// HealthPath answers as long as the server works.
const HealthPath = "/healthz"

// Handler serves a folder with ranges and HEAD, and logs what was asked for: that
// shows how an importer reads.
func Handler(dir string) http.Handler {
	files := http.FileServer(http.Dir(dir))
	mux := http.NewServeMux()
	mux.HandleFunc(HealthPath, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		started := time.Now()
		counted := &countingWriter{ResponseWriter: w, status: http.StatusOK}
		files.ServeHTTP(counted, r)
		fmt.Fprintf(os.Stderr, "%s %s %s range=%q status=%d bytes=%d seconds=%.1f\n", r.RemoteAddr, r.Method, r.URL.Path,
			r.Header.Get("Range"), counted.status, counted.bytes, time.Since(started).Seconds())
	})
	return mux
}

// countingWriter remembers what was answered.
type countingWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

// WriteHeader implements http.ResponseWriter.
func (w *countingWriter) WriteHeader(status int) {
	w.status = status
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *countingWriter) Write(p []byte) (int, error) {
	n, err := w.ResponseWriter.Write(p)
	w.bytes += int64(n)
	return n, err
}

// ReadFrom implements io.ReaderFrom: without it the bytes of a file would go
// through this process instead of from the file to the socket in the kernel.
func (w *countingWriter) ReadFrom(from io.Reader) (int64, error) {
	n, err := io.Copy(w.ResponseWriter, from)
	w.bytes += n
	return n, err
}
