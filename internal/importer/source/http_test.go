// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"bytes"
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const etag = `"v1"`

// content is the image that the test servers have.
var content = func() []byte {
	b := make([]byte, 3<<20)
	source := rand.NewChaCha8([32]byte{2})
	_, _ = source.Read(b)
	return b
}()

// serve answers with the whole image or the range asked for.
func serve(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("ETag", etag)
	http.ServeContent(w, r, "disk.img", time.Time{}, bytes.NewReader(content))
}

// start runs a server and returns options that read its image without patience.
func start(t *testing.T, handler http.HandlerFunc) HTTPOptions {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return options(server.URL + "/disk.img")
}

func options(url string) HTTPOptions {
	return HTTPOptions{URL: url, RetryDelay: time.Millisecond, StallTimeout: 200 * time.Millisecond, HeaderTimeout: 300 * time.Millisecond}
}

// read reads the whole image.
func read(t *testing.T, options HTTPOptions) ([]byte, Stream, error) {
	t.Helper()
	source, err := NewHTTP(options)
	if err != nil {
		return nil, nil, err
	}
	stream, err := source.Open(context.Background())
	if err != nil {
		return nil, nil, err
	}
	defer stream.Close()
	got, err := io.ReadAll(stream)
	return got, stream, err
}

func wantContent(t *testing.T, got []byte, err error) {
	t.Helper()
	if err != nil || !bytes.Equal(got, content) {
		t.Fatalf("got %d bytes, %v", len(got), err)
	}
}

func wantError(t *testing.T, err error, reason string, permanent bool, field, message string) {
	t.Helper()
	var typed *Error
	switch {
	case !errors.As(err, &typed):
		t.Fatalf("untyped: %v", err)
	case string(typed.Reason) != reason || typed.Permanent != permanent || typed.Field != field:
		t.Errorf("got %s, permanent %t, field %q, want %s, %t, %q: %v", typed.Reason, typed.Permanent, typed.Field, reason, permanent, field, err)
	case !strings.Contains(typed.Message, message):
		t.Errorf("message %q does not mention %q", typed.Message, message)
	}
}

// dropAfter writes so many bytes of the answer and closes the connection.
func dropAfter(w http.ResponseWriter, n int) {
	w.Header().Set("ETag", etag)
	w.Header().Set("Content-Length", fmt.Sprint(len(content)))
	_, _ = w.Write(content[:n])
	panic(http.ErrAbortHandler)
}

func TestRead(t *testing.T) {
	var request *http.Request
	got, stream, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		request = r
		serve(w, r)
	}))
	wantContent(t, got, err)
	if stream.Size() != int64(len(content)) || stream.Received() != int64(len(content)) {
		t.Errorf("size %d, received %d", stream.Size(), stream.Received())
	}
	if request.Header.Get("Accept-Encoding") != "identity" || request.Header.Get("Range") != "" {
		t.Errorf("asked with %v", request.Header)
	}
	if n, err := stream.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %d, %v", n, err)
	}
}

func TestReadOfUnknownLength(t *testing.T) {
	chunked := func(w http.ResponseWriter, _ *http.Request) {
		w.(http.Flusher).Flush()
		_, _ = w.Write(content)
	}
	got, stream, err := read(t, start(t, chunked))
	wantContent(t, got, err)
	if stream.Size() != UnknownSize {
		t.Errorf("size %d", stream.Size())
	}
	untilClosed := func(w http.ResponseWriter, _ *http.Request) {
		connection, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			panic(err)
		}
		defer connection.Close()
		_, _ = connection.Write(append([]byte("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n"), content...))
	}
	_, _, err = read(t, start(t, untilClosed))
	wantError(t, err, "SourceUnreachable", true, "checksum", "give a checksum")
	verified := start(t, untilClosed)
	verified.Verified = true
	got, _, err = read(t, verified)
	wantContent(t, got, err)
}

func TestStatus(t *testing.T) {
	for _, tc := range []struct {
		status    int
		reason    string
		permanent bool
		requests  int32
	}{
		{400, "SourceUnreachable", true, 1},
		{401, "SourceUnauthorized", true, 1},
		{403, "SourceUnauthorized", true, 1},
		{404, "SourceNotFound", true, 1},
		{405, "SourceUnreachable", true, 1},
		{407, "SourceUnauthorized", true, 1},
		{408, "SourceUnreachable", false, 4},
		{410, "SourceNotFound", true, 1},
		{418, "SourceUnreachable", true, 1},
		{429, "SourceUnreachable", false, 4},
		{500, "SourceUnreachable", false, 4},
		{503, "SourceUnreachable", false, 4},
		{204, "SourceUnreachable", true, 1},
		{206, "SourceUnreachable", true, 1},
		{304, "SourceUnreachable", true, 1},
	} {
		t.Run(fmt.Sprint(tc.status), func(t *testing.T) {
			var requests atomic.Int32
			_, _, err := read(t, start(t, func(w http.ResponseWriter, _ *http.Request) {
				requests.Add(1)
				w.WriteHeader(tc.status)
			}))
			wantError(t, err, tc.reason, tc.permanent, "url", fmt.Sprint(tc.status))
			if requests.Load() != tc.requests {
				t.Errorf("%d requests, want %d", requests.Load(), tc.requests)
			}
		})
	}
}

func TestServerThatRecovers(t *testing.T) {
	var requests atomic.Int32
	got, _, err := read(t, start(t, func(w http.ResponseWriter, r *http.Request) {
		if requests.Add(1) < 4 {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		serve(w, r)
	}))
	wantContent(t, got, err)
}

func TestUnreachable(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	_, _, err = read(t, options("http://"+address+"/disk.img"))
	wantError(t, err, "SourceUnreachable", false, "url", "cannot be reached")

	_, _, err = read(t, start(t, func(http.ResponseWriter, *http.Request) { time.Sleep(400 * time.Millisecond) }))
	wantError(t, err, "SourceUnreachable", false, "url", "in time")
}

func TestUnknownHost(t *testing.T) {
	source, err := NewHTTP(options("http://mirror.example/disk.img"))
	if err != nil {
		t.Fatal(err)
	}
	err = source.failure(&net.OpError{Op: "dial", Err: &net.DNSError{Err: "no such host", Name: "mirror.example", IsNotFound: true}})
	wantError(t, err, "SourceUnreachable", false, "url", "the host mirror.example is not known")
}

func TestInvalidOptions(t *testing.T) {
	for _, tc := range []struct{ url, field, message string }{
		{"", "url", "scheme"},
		{"disk.img", "url", "scheme"},
		{"ftp://mirror.example/disk.img", "url", `"ftp"`},
		{"file:///etc/shadow", "url", `"file"`},
		{"http:///disk.img", "url", "no host"},
		{"http://user:hunter2@mirror.example:port/", "url", "cannot be parsed"},
		{"http://mirror.example/%zz?sig=hunter2", "url", "cannot be parsed"},
	} {
		_, err := NewHTTP(HTTPOptions{URL: tc.url})
		wantError(t, err, "SourceUnreachable", true, tc.field, tc.message)
		if strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%v shows the secret", err)
		}
	}
	_, err := NewHTTP(HTTPOptions{URL: "https://mirror.example", CA: []byte("no PEM")})
	wantError(t, err, "SourceTLS", true, "caBundle", "no PEM")
}

func TestTLS(t *testing.T) {
	server := httptest.NewUnstartedServer(http.HandlerFunc(serve))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})

	unknown := options(server.URL)
	_, _, err := read(t, unknown)
	wantError(t, err, "SourceTLS", true, "caBundle", "caBundle")

	trusted := options(server.URL)
	trusted.CA = ca
	got, _, err := read(t, trusted)
	wantContent(t, got, err)

	// The certificate is for 127.0.0.1 and example.com.
	other := options(strings.Replace(server.URL, "127.0.0.1", "localhost", 1))
	other.CA = ca
	_, _, err = read(t, other)
	wantError(t, err, "SourceTLS", true, "caBundle", "localhost")

	plain := start(t, serve)
	plain.URL = strings.Replace(plain.URL, "http:", "https:", 1)
	_, _, err = read(t, plain)
	wantError(t, err, "SourceTLS", true, "caBundle", "HTTPS")
}

func TestRefusedNetworks(t *testing.T) {
	refused := start(t, serve)
	refused.RefusedNetworks = []netip.Prefix{netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8")}
	_, _, err := read(t, refused)
	wantError(t, err, "SourceUnreachable", true, "url", "127.0.0.0/8")

	// A redirect leads to the same check.
	inner := start(t, serve)
	outer := start(t, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, strings.Replace(inner.URL, "127.0.0.1", "127.0.0.2", 1), http.StatusFound)
	})
	outer.RefusedNetworks = []netip.Prefix{netip.MustParsePrefix("127.0.0.2/32")}
	_, _, err = read(t, outer)
	wantError(t, err, "SourceUnreachable", true, "url", "127.0.0.2")
}

func TestNoErrorShowsASecret(t *testing.T) {
	for _, status := range []int{401, 404, 500} {
		withSecrets := start(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(status) })
		withSecrets.URL = strings.Replace(withSecrets.URL, "://", "://user:hunter2@", 1) + "?signature=hunter2"
		_, _, err := read(t, withSecrets)
		if err == nil || strings.Contains(err.Error(), "hunter2") || strings.Contains(err.Error(), "user") {
			t.Errorf("%d: %v", status, err)
		}
	}
	unreachable := options("https://user:hunter2@127.0.0.1:1/disk.img?signature=hunter2")
	source, err := NewHTTP(unreachable)
	if err != nil {
		t.Fatal(err)
	}
	if shown := source.String(); shown != "https://127.0.0.1:1/disk.img" {
		t.Errorf("shown as %s", shown)
	}
	if _, err = source.Open(context.Background()); err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("unreachable: %v", err)
	}
}

func TestCredentialsOfTheURLAreSent(t *testing.T) {
	withUser := start(t, func(w http.ResponseWriter, r *http.Request) {
		if user, password, _ := r.BasicAuth(); user != "user" || password != "hunter2" {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		serve(w, r)
	})
	withUser.URL = strings.Replace(withUser.URL, "://", "://user:hunter2@", 1)
	got, _, err := read(t, withUser)
	wantContent(t, got, err)
}
