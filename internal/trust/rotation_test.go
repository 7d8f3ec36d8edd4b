// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	genericapiserver "k8s.io/apiserver/pkg/server"
	genericoptions "k8s.io/apiserver/pkg/server/options"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
	"sigs.k8s.io/controller-runtime/pkg/webhook"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/trust"
)

// authority signs certificates.
type authority struct {
	pem         []byte
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// files are a certificate and its key as PEM.
type files struct{ certificate, key []byte }

func (f files) pair(t *testing.T) tls.Certificate {
	t.Helper()
	pair, err := tls.X509KeyPair(f.certificate, f.key)
	if err != nil {
		t.Fatal(err)
	}
	return pair
}

// sign makes a certificate; one without a parent signs itself. All authorities have one name, as the module's have.
func sign(t *testing.T, template *x509.Certificate, parent *authority) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Minute), time.Now().Add(time.Hour)
	template.BasicConstraintsValid = true
	if template.SerialNumber, err = rand.Int(rand.Reader, big.NewInt(1<<60)); err != nil {
		t.Fatal(err)
	}
	signer, signerKey := template, key
	if parent != nil {
		signer, signerKey = parent.certificate, parent.key
	}
	raw, err := x509.CreateCertificate(rand.Reader, template, signer, key.Public(), signerKey)
	if err != nil {
		t.Fatal(err)
	}
	return key, raw
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, raw := sign(t, &x509.Certificate{Subject: pkix.Name{CommonName: "authority"}, IsCA: true, KeyUsage: x509.KeyUsageCertSign}, nil)
	parsed, err := x509.ParseCertificate(raw)
	if err != nil {
		t.Fatal(err)
	}
	return &authority{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}), certificate: parsed, key: key}
}

func (a *authority) issue(t *testing.T, name string) files {
	t.Helper()
	key, raw := sign(t, &x509.Certificate{
		Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, a)
	encoded, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return files{
		certificate: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: raw}),
		key:         pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}),
	}
}

// volume is a folder that kubelet keeps: all files of it change at once, by a link to the folder that holds them.
type volume struct {
	path  string
	count int
}

func (v *volume) put(t *testing.T, content map[string][]byte) {
	t.Helper()
	v.count++
	name := "..v" + strconv.Itoa(v.count)
	if err := os.Mkdir(filepath.Join(v.path, name), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, text := range content {
		write(t, filepath.Join(v.path, name, file), text)
	}
	link := func(target, as string) {
		temporary := filepath.Join(v.path, "..new")
		if err := os.Symlink(target, temporary); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(temporary, filepath.Join(v.path, as)); err != nil {
			t.Fatal(err)
		}
	}
	link(name, "..data")
	for file := range content {
		if v.count == 1 {
			link(filepath.Join("..data", file), file)
		}
	}
	if v.count > 1 {
		if err := os.RemoveAll(filepath.Join(v.path, "..v"+strconv.Itoa(v.count-1))); err != nil {
			t.Fatal(err)
		}
	}
}

func (v *volume) file(name string) string { return filepath.Join(v.path, name) }

// servers are the ways in which programs of the module serve TLS: each takes a folder with a certificate and serves until
// the context ends.
var servers = map[string]func(ctx context.Context, t *testing.T, tls *volume) (address string){
	"webhooks and reports": serveWebhooks,
	"aggregated API":       serveAPI,
	"registry":             serveRegistry,
}

func serveWebhooks(ctx context.Context, t *testing.T, folder *volume) string {
	port := freePort(t)
	server := webhook.NewServer(webhook.Options{Host: "127.0.0.1", Port: port, CertDir: folder.path})
	server.Register("/", http.HandlerFunc(answer))
	go func() {
		if err := server.Start(ctx); err != nil {
			t.Errorf("webhook server: %v", err)
		}
	}()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
}

func serveAPI(ctx context.Context, t *testing.T, folder *volume) string {
	listener := listen(t)
	options := genericoptions.NewSecureServingOptions()
	options.Listener, options.BindPort = listener, 1
	options.ServerCert.CertKey = genericoptions.CertKey{CertFile: folder.file("tls.crt"), KeyFile: folder.file("tls.key")}
	var serving *genericapiserver.SecureServingInfo
	if err := options.ApplyTo(&serving); err != nil {
		t.Fatal(err)
	}
	if _, _, err := serving.Serve(http.HandlerFunc(answer), time.Second, ctx.Done()); err != nil {
		t.Fatal(err)
	}
	return listener.Addr().String()
}

func serveRegistry(ctx context.Context, t *testing.T, folder *volume) string {
	certificates, err := certwatcher.New(folder.file("tls.crt"), folder.file("tls.key"))
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := certificates.Start(ctx); err != nil {
			t.Errorf("certificates: %v", err)
		}
	}()
	listener := listen(t)
	server := &http.Server{
		Handler: http.HandlerFunc(answer), ReadHeaderTimeout: time.Minute,
		TLSConfig: &tls.Config{GetCertificate: certificates.GetCertificate, MinVersion: tls.VersionTLS12},
	}
	go func() { _ = server.ServeTLS(listener, "", "") }()
	context.AfterFunc(ctx, func() { server.Close() })
	return listener.Addr().String()
}

func answer(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }

func listen(t *testing.T) net.Listener {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

func freePort(t *testing.T) int {
	t.Helper()
	listener := listen(t)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// caller asks a server without end, each time over a new connection.
type caller struct {
	client *http.Client
	url    string
	calls  atomic.Int64
	// serial is that of the certificate which the server has shown last.
	serial atomic.Value
	failed atomic.Value
}

func newCaller(t *testing.T, address, bundle string) *caller {
	t.Helper()
	file, err := trust.Open(bundle)
	if err != nil {
		t.Fatal(err)
	}
	transport, err := dvcr.NewFileTransport(file)
	if err != nil {
		t.Fatal(err)
	}
	transport.DisableKeepAlives = true
	return &caller{client: &http.Client{Transport: transport}, url: "https://" + address + "/"}
}

func (c *caller) call(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, nil)
	if err != nil {
		return err
	}
	response, err := c.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	c.serial.Store(response.TLS.PeerCertificates[0].SerialNumber.String())
	c.calls.Add(1)
	return nil
}

// run begins once the server listens, and stops at the first call that fails.
func (c *caller) run(ctx context.Context) {
	for ctx.Err() == nil {
		if err := c.call(ctx); err != nil && ctx.Err() == nil {
			c.failed.Store(err)
			return
		}
	}
}

// await lets the calls go on until something is so.
func (c *caller) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	before := c.calls.Load()
	for deadline := time.Now().Add(time.Minute); !is() || c.calls.Load() < before+5; time.Sleep(10 * time.Millisecond) {
		if err, failed := c.failed.Load().(error); failed {
			t.Fatalf("waiting for %s: a call failed after %d: %v", what, c.calls.Load(), err)
		}
		if time.Now().After(deadline) {
			t.Fatalf("no %s after %d calls", what, c.calls.Load())
		}
	}
}

func (c *caller) shows(t *testing.T, served files) func() bool {
	leaf := served.pair(t).Leaf
	return func() bool { return c.serial.Load() == leaf.SerialNumber.String() }
}

// Every program of the module goes on serving, and every client goes on talking, while first the certificate, then the
// authority and then the trust in the old authority are replaced under their feet.
func TestNoCallFailsInARotation(t *testing.T) {
	for name, serve := range servers {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(context.Background())
			defer cancel()
			old, next := newAuthority(t), newAuthority(t)
			served, believed := &volume{path: t.TempDir()}, &volume{path: t.TempDir()}
			show := func(pair files) files {
				served.put(t, map[string][]byte{"tls.crt": pair.certificate, "tls.key": pair.key})
				return pair
			}
			believe := func(pems ...[]byte) { believed.put(t, map[string][]byte{"ca.crt": bytes.Join(pems, nil)}) }

			first := show(old.issue(t, "server"))
			believe(old.pem)
			c := newCaller(t, serve(ctx, t, served), believed.file("ca.crt"))
			for c.call(ctx) != nil {
				time.Sleep(10 * time.Millisecond)
			}
			go c.run(ctx)
			c.await(t, "first certificate", c.shows(t, first))

			renewed := show(old.issue(t, "server"))
			c.await(t, "renewed certificate", c.shows(t, renewed))

			believe(old.pem, next.pem)
			c.await(t, "calls with both authorities", func() bool { return true })
			rotated := show(next.issue(t, "server"))
			c.await(t, "certificate of the next authority", c.shows(t, rotated))

			believe(next.pem)
			c.await(t, "calls without the old authority", func() bool { return true })
		})
	}
}
