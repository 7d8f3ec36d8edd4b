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
	"net/url"
	"os"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// failure gives an error of the HTTP client a reason. What the client says
// about the URL is dropped, because it shows the query.
func (h *HTTP) failure(err error) error {
	var typed *Error
	if errors.As(err, &typed) {
		return typed
	}
	var requested *url.Error
	if errors.As(err, &requested) {
		err = requested.Err
	}
	if errors.Is(err, context.Canceled) {
		return err
	}
	if isTLS(err) {
		return &Error{Reason: report.SourceTLS, Permanent: true, Field: "caBundle",
			Message: fmt.Sprintf("no trusted connection to %s: %v; give the authority that signed the server's certificate in caBundle, or correct the URL", h.url.Host, err)}
	}
	message := fmt.Sprintf("%s cannot be reached: %v", h.url.Host, err)
	var dns *net.DNSError
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		message = fmt.Sprintf("the host %s is not known: check the URL and the cluster's DNS", dns.Name)
	case errors.Is(err, os.ErrDeadlineExceeded), isTimeout(err):
		message = fmt.Sprintf("%s does not answer in time: %v", h.url.Host, err)
	}
	return &Error{Reason: report.SourceUnreachable, Field: "url", Message: message}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

// isTLS tells whether the server was reached and could not be trusted, which no
// repetition changes.
func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		hostname     x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
		alert        tls.AlertError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &hostname) ||
		errors.As(err, &invalid) || errors.As(err, &record) || errors.As(err, &alert) || errors.Is(err, http.ErrSchemeMismatch)
}

// statusFailure gives an answer other than success a reason.
func (h *HTTP) statusFailure(response *http.Response) error {
	code := response.StatusCode
	answer := fmt.Sprintf("%s answers %d %s", redacted(response.Request.URL), code, http.StatusText(code))
	failure := &Error{Reason: report.SourceUnreachable, Field: "url", Permanent: true}
	switch code {
	case http.StatusNotFound, http.StatusGone:
		failure.Reason = report.SourceNotFound
		failure.Message = answer + ": check the URL"
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		failure.Reason = report.SourceUnauthorized
		failure.Message = answer + ": the source wants other credentials than the URL has"
	case http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		failure.Permanent = false
		failure.Message = answer
	default:
		// A server that fails may be repaired; a request that it does not like stays the same.
		failure.Permanent = code < 500
		failure.Message = answer
	}
	return failure
}
