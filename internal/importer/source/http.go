// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	// maxRedirects is how many answers may send the importer elsewhere.
	maxRedirects = 10
	// keptConnections is how many stay open between reads at random.
	keptConnections = 32
)

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
	// SlowContact is how long it may take to fail before the first byte and be tried
	// again in silence: whoever waits for longer is told why.
	SlowContact time.Duration
}

// withDefaults fills in what is not set.
func (o HTTPOptions) withDefaults() HTTPOptions {
	setDefault(&o.ConnectTimeout, 10*time.Second)
	setDefault(&o.HeaderTimeout, 30*time.Second)
	setDefault(&o.StallTimeout, 30*time.Second)
	setDefault(&o.StallBytes, 32<<10)
	setDefault(&o.Attempts, 4)
	setDefault(&o.RetryDelay, time.Second)
	setDefault(&o.SlowContact, 5*time.Second)
	return o
}

func setDefault[T comparable](value *T, fallback T) {
	var zero T
	if *value == zero {
		*value = fallback
	}
}

func (o HTTPOptions) network(field string) Network {
	return Network{CA: o.CA, Refused: o.RefusedNetworks, ConnectTimeout: o.ConnectTimeout, HeaderTimeout: o.HeaderTimeout, field: field}
}

// HTTP is an image on a web server.
type HTTP struct {
	options HTTPOptions
	url     *url.URL
	client  *http.Client
	// ranged keeps its connections, for many reads at random.
	ranged *http.Client
	// immutable tells that the URL names its content, as that of a blob in a
	// registry does: no validator is needed to continue.
	immutable bool
	// authorize adds credentials to a request for the URL; it may be nil.
	authorize func(*http.Request) error

	// found is where the last redirect led.
	mu    sync.Mutex
	found *place
}

// place is a URL and the credentials that may be sent there.
type place struct {
	url           *url.URL
	authorization string
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
	streaming, err := options.network("url").transport(0)
	if err != nil {
		return nil, err
	}
	kept, err := options.network("url").transport(keptConnections)
	if err != nil {
		return nil, err
	}
	return newHTTP(options, parsed, streaming, kept), nil
}

func newHTTP(options HTTPOptions, from *url.URL, streaming, kept http.RoundTripper) *HTTP {
	h := &HTTP{options: options.withDefaults(), url: from}
	h.client = &http.Client{Transport: streaming, CheckRedirect: h.checkRedirect}
	h.ranged = &http.Client{Transport: kept, CheckRedirect: h.checkRedirect}
	return h
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

// get requests a part of the image, "" for all of it. A validator makes the
// server send the part only if the image is unchanged.
func (h *HTTP) get(ctx context.Context, client *http.Client, part, validator string) (*http.Response, error) {
	at := h.target()
	response, err := h.getFrom(ctx, client, at, part, validator)
	if at.url != h.url && ctx.Err() == nil && !sent(response) {
		// Links to mirrors expire, so the URL that the user gave is asked again.
		if response != nil {
			response.Body.Close()
		}
		h.remember(nil)
		response, err = h.getFrom(ctx, client, place{url: h.url}, part, validator)
	}
	if err != nil {
		return nil, err
	}
	h.remember(response)
	return response, nil
}

func (h *HTTP) getFrom(ctx context.Context, client *http.Client, at place, part, validator string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, at.url.String(), nil)
	if err != nil {
		return nil, h.failure(errors.New("the URL cannot be requested"))
	}
	request.Header.Set("User-Agent", "virtualization-importer")
	request.Header.Set("Accept-Encoding", "identity")
	if part != "" {
		request.Header.Set("Range", part)
		if validator != "" {
			request.Header.Set("If-Range", validator)
		}
	}
	switch {
	case at.authorization != "":
		request.Header.Set("Authorization", at.authorization)
	case h.authorize != nil && at.url == h.url:
		if err := h.authorize(request); err != nil {
			return nil, err
		}
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, h.failure(err)
	}
	return response, nil
}

// sent tells whether an answer holds content.
func sent(response *http.Response) bool { return response != nil && response.StatusCode/100 == 2 }

// target is where the image is asked for: where it was found before, because
// one server may send each request to another mirror, which has another ETag.
func (h *HTTP) target() place {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.found != nil {
		return *h.found
	}
	return place{url: h.url}
}

// remember keeps where an answer came from, if it was a good one.
func (h *HTTP) remember(response *http.Response) {
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case !sent(response):
		h.found = nil
	case h.found == nil && response.Request.URL.String() != h.url.String():
		h.found = &place{url: response.Request.URL, authorization: response.Request.Header.Get("Authorization")}
	}
}

// checkEncoding refuses a body that is not the file. Servers call a file that
// is itself compressed encoded by its extension, which is fine: it is unpacked
// by what it begins with.
func (h *HTTP) checkEncoding(response *http.Response) error {
	encoding := strings.ToLower(strings.TrimSpace(response.Header.Get("Content-Encoding")))
	extensions := map[string]string{"gzip": ".gz", "x-gzip": ".gz", "zstd": ".zst", "xz": ".xz", "x-xz": ".xz"}
	extension, unpacked := extensions[encoding]
	switch {
	case encoding == "" || encoding == "identity":
		return nil
	case unpacked && (!h.options.Verified || path.Ext(response.Request.URL.Path) == extension):
		return nil
	}
	return &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "url",
		Message: fmt.Sprintf("%s sends the image encoded as %q although it was asked not to: switch the encoding off for this file", redacted(response.Request.URL), encoding)}
}
