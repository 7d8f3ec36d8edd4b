// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package trust_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/deckhouse/virtualization/internal/trust"
)

func TestSources(t *testing.T) {
	if got := trust.Source(nil).PEM(); got != nil {
		t.Errorf("no source gives %q", got)
	}
	if got := trust.Static([]byte("CA")).PEM(); string(got) != "CA" {
		t.Errorf("got %q", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	directory := t.TempDir()
	nonsense := filepath.Join(directory, "nonsense")
	write(t, nonsense, []byte("nonsense"))
	if _, err := trust.Open(nonsense); !errors.Is(err, trust.ErrNoCertificate) || !strings.Contains(err.Error(), nonsense) {
		t.Errorf("got %v, want the file's name and what is missing", err)
	}
	if _, err := trust.Open(filepath.Join(directory, "none")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

// What can't be used for a moment does not take away what was known.
func TestFileIsReadAnew(t *testing.T) {
	first, second := newAuthority(t), newAuthority(t)
	path := filepath.Join(t.TempDir(), "ca.crt")
	write(t, path, first.pem)
	file, err := trust.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name    string
		content []byte
		want    []byte
	}{
		{"as it was", first.pem, first.pem},
		{"both", append(bytes.Clone(first.pem), second.pem...), append(bytes.Clone(first.pem), second.pem...)},
		{"the other one", second.pem, second.pem},
		{"half written", second.pem[:20], second.pem},
		{"empty", nil, second.pem},
	} {
		write(t, path, step.content)
		if got := file.PEM(); !bytes.Equal(got, step.want) {
			t.Errorf("%s: got %s", step.name, got)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if got := file.PEM(); !bytes.Equal(got, second.pem) {
		t.Errorf("gone: got %s", got)
	}
}

func TestDialEndsWhatItBegan(t *testing.T) {
	authority := newAuthority(t)
	path := filepath.Join(t.TempDir(), "ca.crt")
	write(t, path, authority.pem)
	file, err := trust.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}

	refused := errors.New("refused")
	dial := file.Dial(func(context.Context, string, string) (net.Conn, error) { return nil, refused }, config)
	if _, err := dial(t.Context(), "tcp", "dvcr:443"); !errors.Is(err, refused) {
		t.Errorf("got %v, want the dialer's error", err)
	}
	if _, err := dial(t.Context(), "tcp", "no-port"); err == nil {
		t.Error("an address without a port was dialed")
	}

	listener := listen(t)
	defer listener.Close()
	served := make(chan error, 1)
	go func() {
		plain, err := listener.Accept()
		if err == nil {
			defer plain.Close()
			// A certificate that an unknown authority has signed.
			pair := newAuthority(t).issue(t, "dvcr").pair(t)
			err = tls.Server(plain, &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}).HandshakeContext(t.Context())
		}
		served <- err
	}()
	near, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	dial = file.Dial(func(context.Context, string, string) (net.Conn, error) { return near, nil }, config)
	var unknown *tls.CertificateVerificationError
	if _, err := dial(t.Context(), "tcp", "dvcr:443"); !errors.As(err, &unknown) {
		t.Errorf("got %v, want that the certificate is refused", err)
	}
	if err := <-served; err == nil {
		t.Error("the server was left with a connection")
	}
	if _, err := near.Read(make([]byte, 1)); err == nil {
		t.Error("the connection is open")
	}
}

func write(t *testing.T, path string, content []byte) {
	t.Helper()
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
