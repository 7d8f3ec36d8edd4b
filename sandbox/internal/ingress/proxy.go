// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package ingress

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync/atomic"
	"time"
)

const (
	headerTimeout = 10 * time.Second
	dialTimeout   = 5 * time.Second
	// flushAtOnce passes answers on as they come.
	flushAtOnce = -1
)

// Proxy passes requests on as its table says.
type Proxy struct {
	table atomic.Pointer[Table]
	log   *slog.Logger
	proxy *httputil.ReverseProxy
}

// NewProxy returns a proxy that knows no way yet.
func NewProxy(log *slog.Logger) *Proxy {
	p := &Proxy{log: log}
	p.table.Store(NewTable("", Objects{}))
	p.proxy = &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(r.In.Context().Value(targetKey{}).(*url.URL))
			r.Out.Host = r.In.Host
			r.SetXForwarded()
		},
		FlushInterval: flushAtOnce,
		Transport: &http.Transport{
			// An answer may take as long as it wants: an upload is answered when the image is safe.
			DialContext:         (&net.Dialer{Timeout: dialTimeout}).DialContext,
			MaxIdleConnsPerHost: 8,
			IdleConnTimeout:     time.Minute,
		},
		ErrorLog:     slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ErrorHandler: p.failed,
	}
	return p
}

// Use puts another table in the place of the one before; requests in flight keep theirs.
func (p *Proxy) Use(table *Table) { p.table.Store(table) }

func (p *Proxy) failed(w http.ResponseWriter, r *http.Request, err error) {
	p.log.Warn("request failed", "host", r.Host, "error", err)
	http.Error(w, "the backend does not answer", http.StatusBadGateway)
}

// ServeHTTP implements http.Handler.
func (p *Proxy) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	target := p.table.Load().Target(r.Host, r.URL.Path)
	if target == nil {
		http.Error(w, "no Ingress has a rule for this host and path", http.StatusNotFound)
		return
	}
	p.proxy.ServeHTTP(w, r.WithContext(withTarget(r.Context(), target)))
}

// Plain serves requests without TLS: where a host has a certificate they are sent
// to where it is used.
func (p *Proxy) Plain() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if p.table.Load().Certificate(host) == nil {
			p.ServeHTTP(w, r)
			return
		}
		http.Redirect(w, r, "https://"+host+r.URL.RequestURI(), http.StatusPermanentRedirect)
	})
}

// Certificate chooses one for a client that begins TLS.
func (p *Proxy) Certificate(hello *tls.ClientHelloInfo) (*tls.Certificate, error) {
	if certificate := p.table.Load().Certificate(hello.ServerName); certificate != nil {
		return certificate, nil
	}
	return nil, fmt.Errorf("no Ingress has a certificate for %q", hello.ServerName)
}

// Servers returns the server of TLS and that of plain HTTP. Neither limits the
// size of a body or the time that it takes.
func (p *Proxy) Servers() (secure, plain *http.Server) {
	quiet := slog.NewLogLogger(p.log.Handler(), slog.LevelDebug)
	secure = &http.Server{
		Handler: p, ReadHeaderTimeout: headerTimeout, ErrorLog: quiet,
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: p.Certificate},
	}
	plain = &http.Server{Handler: p.Plain(), ReadHeaderTimeout: headerTimeout, ErrorLog: quiet}
	return secure, plain
}
