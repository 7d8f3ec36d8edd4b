// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/server"
)

// writeCertificate puts a fresh certificate of the given name into dir, the way
// a mounted Secret shows it.
func writeCertificate(t *testing.T, dir, name string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "tls.key"), string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: private})))
	write(t, filepath.Join(dir, "tls.crt"), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})))
}

// write replaces a file at once, so that nobody reads half of it.
func write(t *testing.T, path, content string) {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

func newConfig(t *testing.T) server.Config {
	t.Helper()
	dir := t.TempDir()
	_, public := dvcrtest.KeysPEM(t)
	write(t, filepath.Join(dir, "tokenPublicKey"), string(public))
	write(t, filepath.Join(dir, "httpSecret"), "secret\n")
	writeCertificate(t, dir, "first")
	return server.Config{
		Root:               t.TempDir(),
		Address:            freeAddress(t),
		TLSCertFile:        filepath.Join(dir, "tls.crt"),
		TLSKeyFile:         filepath.Join(dir, "tls.key"),
		TokenPublicKeyFile: filepath.Join(dir, "tokenPublicKey"),
		HTTPSecretFile:     filepath.Join(dir, "httpSecret"),
		HealthAddress:      freeAddress(t),
		MetricsAddress:     freeAddress(t),
	}
}

var silent = slog.New(slog.NewTextHandler(io.Discard, nil))

// get waits until the URL answers.
func get(t *testing.T, url string) (status int, body, certificate string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true,
	}}
	var err error
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		var response *http.Response
		if response, err = client.Get(url); err != nil {
			continue
		}
		defer response.Body.Close()
		content, err := io.ReadAll(response.Body)
		if err != nil {
			t.Fatal(err)
		}
		if response.TLS != nil {
			certificate = response.TLS.PeerCertificates[0].Subject.CommonName
		}
		return response.StatusCode, string(content), certificate
	}
	t.Fatalf("%s: %v", url, err)
	return 0, "", ""
}

// The whole process: all listeners, a certificate that is renewed while it
// runs, and an orderly end. It can run once, because metrics are global.
func TestRun(t *testing.T) {
	config := newConfig(t)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- server.Run(ctx, config, silent) }()
	defer func() {
		cancel()
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("ended with %v", err)
			}
		case <-time.After(20 * time.Second):
			t.Error("does not end")
		}
	}()

	if status, _, certificate := get(t, "https://"+config.Address+"/v2/"); status != 401 || certificate != "first" {
		t.Errorf("registry: %d, certificate %q", status, certificate)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if status, body, _ := get(t, "http://"+config.HealthAddress+path); status != 200 {
			t.Errorf("%s: %d %s", path, status, body)
		}
	}
	if status, body, _ := get(t, "http://"+config.MetricsAddress+"/metrics"); status != 200 || !strings.Contains(body, "dvcr_storage_available_bytes ") {
		t.Errorf("metrics: %d", status)
	}
	writeCertificate(t, filepath.Dir(config.TLSCertFile), "second")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if _, _, certificate := get(t, "https://"+config.Address+"/v2/"); certificate == "second" {
			break
		} else if time.Now().After(deadline) {
			t.Fatalf("the certificate is still %q", certificate)
		}
	}
	if err := os.RemoveAll(config.Root); err != nil {
		t.Fatal(err)
	}
	if status, _, _ := get(t, "http://"+config.HealthAddress+"/readyz"); status != 503 {
		t.Errorf("ready without storage: %d", status)
	}
}

func TestRunNamesWhatIsWrong(t *testing.T) {
	for want, change := range map[string]func(*server.Config){
		"--token-public-key-file": func(c *server.Config) { c.TokenPublicKeyFile += ".missing" },
		"P-256":                   func(c *server.Config) { c.TokenPublicKeyFile = c.HTTPSecretFile },
		"--http-secret-file":      func(c *server.Config) { c.HTTPSecretFile += ".missing" },
		"is empty": func(c *server.Config) {
			write(t, c.HTTPSecretFile, " \n")
		},
		"storage directory": func(c *server.Config) { c.Root = "" },
	} {
		config := newConfig(t)
		change(&config)
		err := server.Run(context.Background(), config, silent)
		if err == nil || !strings.Contains(fmt.Sprint(err), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}
