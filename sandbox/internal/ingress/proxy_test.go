// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/textproto"
	"net/url"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

const host = "virtualization.example.com"

// bench is a proxy with both of its servers and one backend.
type bench struct {
	t             *testing.T
	secure, plain string
	client        *http.Client
}

func newBench(t *testing.T, backend http.Handler) *bench {
	t.Helper()
	origin := httptest.NewServer(backend)
	t.Cleanup(origin.Close)
	target, err := url.Parse(origin.URL)
	if err != nil {
		t.Fatal(err)
	}
	pair := keyPair(t, "tls", host)
	certificate, err := tls.X509KeyPair(pair.Data["tls.crt"], pair.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	proxy := NewProxy(slog.New(slog.DiscardHandler))
	proxy.Use(&Table{
		routes:       []route{{host: host, path: "/upload", target: target}, {host: "plain.example.com", path: "/", target: target}},
		certificates: map[string]*tls.Certificate{host: &certificate},
	})
	secure, plain := proxy.Servers()
	b := &bench{t: t, secure: start(t, secure), plain: start(t, plain)}
	trusted := x509.NewCertPool()
	trusted.AddCert(certificate.Leaf)
	b.client = &http.Client{
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{RootCAs: trusted, ServerName: host, MinVersion: tls.VersionTLS12}},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	t.Cleanup(b.client.CloseIdleConnections)
	return b
}

func start(t *testing.T, server *http.Server) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if server.TLSConfig != nil {
			_ = server.ServeTLS(listener, "", "")
		} else {
			_ = server.Serve(listener)
		}
	}()
	t.Cleanup(func() { _ = server.Close() })
	return listener.Addr().String()
}

// send sends a request for a host to one of the servers.
func (b *bench) send(request *http.Request) (*http.Response, string) {
	b.t.Helper()
	response, err := b.client.Do(request)
	if err != nil {
		b.t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		b.t.Fatal(err)
	}
	return response, string(body)
}

func (b *bench) request(method, address, name string, body io.Reader) *http.Request {
	b.t.Helper()
	request, err := http.NewRequestWithContext(b.t.Context(), method, address, body)
	if err != nil {
		b.t.Fatal(err)
	}
	request.Host = name
	return request
}

func TestRequestReachesTheBackend(t *testing.T) {
	b := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Upload-Offset", "7")
		w.WriteHeader(http.StatusCreated)
		fmt.Fprint(w, r.Method, " ", r.Host, " ", r.URL.RequestURI(), " ", r.Header.Get("X-Forwarded-Proto"), " ", r.Header.Get("Upload-Offset"))
	}))
	request := b.request(http.MethodPatch, "https://"+b.secure+"/upload/token?x=1", host, strings.NewReader("data"))
	request.Header.Set("Upload-Offset", "3")
	response, body := b.send(request)
	if want := "PATCH " + host + " /upload/token?x=1 https 3"; response.StatusCode != http.StatusCreated || body != want {
		t.Errorf("%d %q, want 201 %q", response.StatusCode, body, want)
	}
	if response.Header.Get("Upload-Offset") != "7" {
		t.Error("a header of the answer is lost")
	}
}

// noise is a body of any size that takes no memory.
func noise(size int64) io.Reader { return io.LimitReader(zeros{}, size) }

type zeros struct{}

func (zeros) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

func TestBodyOfAnySize(t *testing.T) {
	const size = 300 << 20
	b := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sum := sha256.New()
		n, err := io.Copy(sum, r.Body)
		fmt.Fprint(w, n, " ", err, " ", hex.EncodeToString(sum.Sum(nil)))
	}))
	sum := sha256.New()
	if _, err := io.Copy(sum, noise(size)); err != nil {
		t.Fatal(err)
	}
	_, body := b.send(b.request(http.MethodPut, "https://"+b.secure+"/upload/token", host, noise(size)))
	if want := fmt.Sprint(size, " <nil> ", hex.EncodeToString(sum.Sum(nil))); body != want {
		t.Errorf("got %q, want %q", body, want)
	}
}

// The first bytes arrive before the last ones are sent: nothing waits for the whole body.
func TestBodyIsNotGathered(t *testing.T) {
	arrived := make(chan string, 1)
	b := newBench(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		first := make([]byte, 5)
		_, _ = io.ReadFull(r.Body, first)
		arrived <- string(first)
		_, _ = io.Copy(io.Discard, r.Body)
	}))
	body, feed := io.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		b.send(b.request(http.MethodPut, "https://"+b.secure+"/upload/token", host, body))
	}()
	if _, err := io.WriteString(feed, "first"); err != nil {
		t.Fatal(err)
	}
	select {
	case got := <-arrived:
		if got != "first" {
			t.Errorf("got %q", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("nothing arrived while the body was still being sent")
	}
	feed.Close()
	<-done
}

// Clients of resumable uploads learn their offset from answers that come in between.
func TestInformationalAnswersPass(t *testing.T) {
	b := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Location", "/upload/token/1")
		w.WriteHeader(104)
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusCreated)
	}))
	var codes []int
	request := b.request(http.MethodPost, "https://"+b.secure+"/upload/token", host, strings.NewReader("data"))
	trace := &httptrace.ClientTrace{Got1xxResponse: func(code int, _ textproto.MIMEHeader) error {
		codes = append(codes, code)
		return nil
	}}
	response, _ := b.send(request.WithContext(httptrace.WithClientTrace(request.Context(), trace)))
	if len(codes) != 1 || codes[0] != 104 || response.StatusCode != http.StatusCreated {
		t.Errorf("answers %v and %d, want 104 and 201", codes, response.StatusCode)
	}
}

func TestPlainRequests(t *testing.T) {
	b := newBench(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "backend") }))
	response, _ := b.send(b.request(http.MethodGet, "http://"+b.plain+"/upload/token?x=1", host+":80", nil))
	if got := response.Header.Get("Location"); response.StatusCode != http.StatusPermanentRedirect || got != "https://"+host+"/upload/token?x=1" {
		t.Errorf("%d to %q, want a redirect to HTTPS", response.StatusCode, got)
	}
	if response, body := b.send(b.request(http.MethodGet, "http://"+b.plain+"/", "plain.example.com", nil)); response.StatusCode != http.StatusOK || body != "backend" {
		t.Errorf("%d %q, want the backend where there is no certificate", response.StatusCode, body)
	}
}

func TestRefusals(t *testing.T) {
	b := newBench(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	for path, want := range map[string]int{"/elsewhere": http.StatusNotFound, "/upload/token": http.StatusBadGateway} {
		if response, _ := b.send(b.request(http.MethodGet, "https://"+b.secure+path, host, nil)); response.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, response.StatusCode, want)
		}
	}
	dialer := tls.Dialer{Config: &tls.Config{ServerName: "other.example.com", InsecureSkipVerify: true}} //nolint:gosec // no certificate is what is tested
	if connection, err := dialer.DialContext(t.Context(), "tcp", b.secure); err == nil {
		connection.Close()
		t.Error("a host without a certificate was served with another's")
	}
}

func TestControllerFollowsTheCluster(t *testing.T) {
	proxy := NewProxy(slog.New(slog.DiscardHandler))
	client := fake.NewClientset(service(t, "a", "10.96.0.1"))
	go func() {
		_ = (&Controller{Client: client, Class: "nginx", Proxy: proxy, Log: slog.New(slog.DiscardHandler)}).Run(t.Context())
	}()
	eventually := func(what string, check func() bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); !check(); time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("never: " + what)
			}
		}
	}
	leads := func() bool { return proxy.table.Load().Target(host, "/upload/token") != nil }
	certified := func() bool { return proxy.table.Load().Certificate(host) != nil }

	made := rules(t, "upload", `{tls: [{hosts: [`+host+`], secretName: tls}], rules: [{host: `+host+`, http: {paths: [
		{path: /upload/token, pathType: Prefix, backend: {service: {name: a, port: {number: 80}}}}]}}]}`)
	if _, err := client.NetworkingV1().Ingresses("ns").Create(t.Context(), made, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually("the way leads to the Service", leads)
	if certified() {
		t.Error("there is a certificate before its Secret")
	}
	secret := keyPair(t, "tls", host)
	secret.Type = corev1.SecretTypeTLS
	if _, err := client.CoreV1().Secrets("ns").Create(t.Context(), secret, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually("the certificate is used", certified)
	if err := client.NetworkingV1().Ingresses("ns").Delete(t.Context(), "upload", metav1.DeleteOptions{}); err != nil {
		t.Fatal(err)
	}
	eventually("the way is closed", func() bool { return !leads() && !certified() })
}
