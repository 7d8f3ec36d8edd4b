// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
)

func TestHandler(t *testing.T) {
	dir := t.TempDir()
	write(t, filepath.Join(dir, "tiny.qcow2"), "0123456789")
	server := httptest.NewServer(Handler(dir))
	defer server.Close()
	tests := []struct {
		name, method, path, header string
		status                     int
		length, body               string
	}{
		{"all of it", "GET", "/tiny.qcow2", "", 200, "10", "0123456789"},
		{"its size", "HEAD", "/tiny.qcow2", "", 200, "10", ""},
		{"a range", "GET", "/tiny.qcow2", "bytes=2-4", 206, "3", "234"},
		{"the end", "GET", "/tiny.qcow2", "bytes=-2", 206, "2", "89"},
		{"behind the end", "GET", "/tiny.qcow2", "bytes=20-30", 416, "33", "invalid range: failed to overlap\n"},
		{"nothing there", "GET", "/none.qcow2", "", 404, "19", "404 page not found\n"},
		{"out of the folder", "GET", "/../handler_test.go", "", 404, "19", "404 page not found\n"},
		{"health", "GET", "/healthz", "", 200, "3", "ok\n"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			request, err := http.NewRequest(test.method, server.URL+test.path, nil)
			if err != nil {
				t.Fatal(err)
			}
			if test.header != "" {
				request.Header.Set("Range", test.header)
			}
			response, err := http.DefaultClient.Do(request)
			if err != nil {
				t.Fatal(err)
			}
			defer response.Body.Close()
			body, err := io.ReadAll(response.Body)
			if err != nil {
				t.Fatal(err)
			}
			if response.StatusCode != test.status || response.Header.Get("Content-Length") != test.length || string(body) != test.body {
				t.Errorf("got %d, %s bytes, %q", response.StatusCode, response.Header.Get("Content-Length"), body)
			}
		})
	}
}

// direct is a writer that takes a file as net/http's own does.
type direct struct {
	*httptest.ResponseRecorder
	from io.Reader
}

func (d *direct) ReadFrom(from io.Reader) (int64, error) {
	d.from = from
	return io.Copy(d.ResponseRecorder, struct{ io.Reader }{from})
}

// A file reaches net/http as a file: only that lets the kernel send it.
func TestFilesAreHandedOnAsTheyAre(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tiny.qcow2")
	write(t, path, "0123456789")
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	below := &direct{ResponseRecorder: httptest.NewRecorder()}
	counted := &countingWriter{ResponseWriter: below}
	// As http.ServeContent does it.
	if n, err := io.CopyN(counted, file, 4); n != 4 || err != nil {
		t.Fatalf("%d bytes, %v", n, err)
	}
	limited, ok := below.from.(*io.LimitedReader)
	if !ok || limited.R != io.Reader(file) {
		t.Errorf("net/http is handed %T", below.from)
	}
	if counted.bytes != 4 || below.Body.String() != "0123" {
		t.Errorf("counted %d bytes of %q", counted.bytes, below.Body)
	}
}

func TestWhatWasSentBeforeAnErrorIsCounted(t *testing.T) {
	broken := errors.New("broken")
	counted := &countingWriter{ResponseWriter: httptest.NewRecorder()}
	n, err := io.Copy(counted, io.MultiReader(strings.NewReader("01234"), iotest.ErrReader(broken)))
	if n != 5 || counted.bytes != 5 || !errors.Is(err, broken) {
		t.Errorf("%d bytes, %d counted, %v", n, counted.bytes, err)
	}
	if _, err := counted.Write([]byte("56")); err != nil || counted.bytes != 7 {
		t.Errorf("%d counted, %v", counted.bytes, err)
	}
}
