// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"testing"
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
