// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// maxRedirects is how many answers may send the importer elsewhere.
const maxRedirects = 10

// HTTPOptions describe an image on a web server.
type HTTPOptions struct {
	// URL of the image; its scheme is http or https, it may hold credentials.
	URL string
	// CA holds further PEM certificate authorities to trust.
	CA []byte
	// Verified tells that a checksum will be compared, so that a redirect from
	// https to http cannot smuggle another image in.
	Verified bool
	// RefusedNetworks are never connected to, whatever a name or a redirect
	// resolves to.
	RefusedNetworks []netip.Prefix

	ConnectTimeout time.Duration
	// HeaderTimeout is how long the server may think before it answers.
	HeaderTimeout time.Duration
	// StallTimeout is how long the stream may stay under StallBytes.
	StallTimeout time.Duration
	StallBytes   int64
	// Attempts is how often in a row the server may fail before the import
	// does, RetryDelay the pause before the second, doubled each time.
	Attempts   int
	RetryDelay time.Duration
}

// withDefaults fills in what is not set.
func (o HTTPOptions) withDefaults() HTTPOptions {
	setDefault(&o.ConnectTimeout, 10*time.Second)
	setDefault(&o.HeaderTimeout, 30*time.Second)
	setDefault(&o.StallTimeout, 30*time.Second)
	setDefault(&o.StallBytes, 32<<10)
	setDefault(&o.Attempts, 4)
	setDefault(&o.RetryDelay, time.Second)
	return o
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

// HTTP is an image on a web server.
type HTTP struct {
	options HTTPOptions
	url     *url.URL
	client  *http.Client
}

// NewHTTP checks the options; it does not connect.
func NewHTTP(options HTTPOptions) (*HTTP, error) {
	options = options.withDefaults()
	parsed, err := url.Parse(options.URL)
	switch {
	case err != nil:
		// The error would quote the URL with its credentials.
		return nil, &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "url", Message: "the URL cannot be parsed: check it for spaces and wrong escapes"}
	case parsed.Scheme != "http" && parsed.Scheme != "https":
		return nil, &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "url", Message: fmt.Sprintf("the URL's scheme is %q: use http or https", parsed.Scheme)}
	case parsed.Host == "":
		return nil, &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "url", Message: "the URL names no host"}
	}
	roots, err := trustedRoots(options.CA)
	if err != nil {
		return nil, err
	}
	h := &HTTP{options: options, url: parsed}
	h.client = &http.Client{Transport: h.transport(roots), CheckRedirect: h.checkRedirect}
	return h, nil
}

// trustedRoots adds the user's authorities to those of the system.
func trustedRoots(ca []byte) (*x509.CertPool, error) {
	if len(ca) == 0 {
		return nil, nil
	}
	pool, err := x509.SystemCertPool()
	if err != nil {
		pool = x509.NewCertPool()
	}
	if !pool.AppendCertsFromPEM(ca) {
		return nil, &Error{Reason: report.SourceTLS, Permanent: true, Field: "caBundle", Message: "the CA bundle holds no PEM certificate"}
	}
	return pool, nil
}

func (h *HTTP) transport(roots *x509.CertPool) *http.Transport {
	dialer := &net.Dialer{Timeout: h.options.ConnectTimeout, KeepAlive: 15 * time.Second, Control: h.checkAddress}
	return &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           dialer.DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   h.options.ConnectTimeout,
		ResponseHeaderTimeout: h.options.HeaderTimeout,
		// The file's bytes are wanted as they are, and one stream is faster
		// over HTTP/1.1 than over HTTP/2.
		DisableCompression: true,
		DisableKeepAlives:  true,
	}
}

// checkAddress runs when a name is resolved and before the connection is made,
// so no name can point around it.
func (h *HTTP) checkAddress(_, address string, _ syscall.RawConn) error {
	endpoint, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("address %s: %w", address, err)
	}
	for _, network := range h.options.RefusedNetworks {
		if network.Contains(endpoint.Addr().Unmap().WithZone("")) {
			return &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "url",
				Message: fmt.Sprintf("the source is at %s, and images are not imported from the network %s", endpoint.Addr(), network)}
		}
	}
	return nil
}

// checkRedirect follows a bounded number of redirects and keeps credentials at
// the origin that they were given for.
func (h *HTTP) checkRedirect(next *http.Request, before []*http.Request) error {
	fail := func(format string, args ...any) error {
		return &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "url", Message: fmt.Sprintf(format, args...)}
	}
	previous := before[len(before)-1]
	switch {
	case len(before) > maxRedirects:
		return fail("the source redirects more than %d times", maxRedirects)
	case next.URL.Scheme != "http" && next.URL.Scheme != "https":
		return fail("the source redirects to the scheme %q: only http and https are followed", next.URL.Scheme)
	case previous.URL.Scheme == "https" && next.URL.Scheme == "http" && !h.options.Verified:
		return fail("the source redirects from https to http (%s), where the image could be exchanged: give a checksum, or the final URL", redacted(next.URL))
	}
	if !sameOrigin(before[0].URL, next.URL) {
		next.Header.Del("Authorization")
		next.Header.Del("Cookie")
	}
	// It would show the query of the previous URL.
	next.Header.Del("Referer")
	return nil
}

func sameOrigin(a, b *url.URL) bool {
	return a.Scheme == b.Scheme && strings.EqualFold(a.Hostname(), b.Hostname()) && port(a) == port(b)
}

func port(u *url.URL) string {
	switch {
	case u.Port() != "":
		return u.Port()
	case u.Scheme == "https":
		return "443"
	}
	return "80"
}

// redacted is a URL without anything that may be secret: users put passwords
// in front of the host and signatures into the query.
func redacted(u *url.URL) string {
	shown := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: u.Path}
	return shown.String()
}

// String is the URL without anything that may be secret.
func (h *HTTP) String() string { return redacted(h.url) }

// get requests the image from an offset on. A validator makes the server send
// the rest only if the image is unchanged.
func (h *HTTP) get(ctx context.Context, offset int64, validator string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, h.url.String(), nil)
	if err != nil {
		return nil, h.failure(errors.New("the URL cannot be requested"))
	}
	request.Header.Set("User-Agent", "virtualization-importer")
	request.Header.Set("Accept-Encoding", "identity")
	if offset > 0 {
		request.Header.Set("Range", "bytes="+strconv.FormatInt(offset, 10)+"-")
		request.Header.Set("If-Range", validator)
	}
	response, err := h.client.Do(request)
	if err != nil {
		return nil, h.failure(err)
	}
	return response, nil
}
