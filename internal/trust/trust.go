// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package trust keeps up with a file of certificate authorities that is replaced while a program runs.
package trust

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// handshakeTimeout ends a connection to somebody who does not speak TLS.
const handshakeTimeout = 10 * time.Second

// Dialer makes plain connections, as net.Dialer does.
type Dialer func(ctx context.Context, network, address string) (net.Conn, error)

// ErrNoCertificate says that there is nothing to believe in.
var ErrNoCertificate = errors.New("no PEM certificate found in the certificate authority's file")

// Source gives the certificate authorities to believe now, as PEM. A nil Source gives none.
type Source func() []byte

// Static always gives the same.
func Static(pem []byte) Source { return func() []byte { return pem } }

// PEM asks the source.
func (s Source) PEM() []byte {
	if s == nil {
		return nil
	}
	return s()
}

// File is a PEM file of certificate authorities, as kubelet keeps it in a pod: it is replaced as a whole when the
// authorities of the module change. Each look reads it anew, which is nothing beside the connection that it is for.
type File struct {
	path string

	mu sync.Mutex
	// last is the newest content that could be used.
	last []byte
}

// Open makes sure that the file can be used now.
func Open(path string) (*File, error) {
	content, err := read(path)
	if err != nil {
		return nil, err
	}
	return &File{path: path, last: content}, nil
}

func read(path string) ([]byte, error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if !x509.NewCertPool().AppendCertsFromPEM(content) {
		return nil, fmt.Errorf("%s: %w", path, ErrNoCertificate)
	}
	return content, nil
}

// PEM is what the file holds now, or held last when it can't be used for a moment.
func (f *File) PEM() []byte {
	content, err := read(f.path)
	f.mu.Lock()
	defer f.mu.Unlock()
	if err == nil {
		f.last = content
	}
	return f.last
}

// Dial returns what makes TLS connections of an http.Transport. Go's own way knows one set of authorities for as long as
// the transport lives; here each connection is made with those of its moment.
func (f *File) Dial(dial Dialer, config *tls.Config) Dialer {
	return func(ctx context.Context, network, address string) (net.Conn, error) {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		plain, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		own := config.Clone()
		own.ServerName, own.RootCAs = host, x509.NewCertPool()
		own.RootCAs.AppendCertsFromPEM(f.PEM())
		connection := tls.Client(plain, own)
		ctx, cancel := context.WithTimeout(ctx, handshakeTimeout)
		defer cancel()
		if err := connection.HandshakeContext(ctx); err != nil {
			return nil, errors.Join(err, plain.Close())
		}
		return connection, nil
	}
}
