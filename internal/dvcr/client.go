// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/trust"
)

// userName goes with every token: Basic credentials need one, the registry
// ignores it.
const userName = "importer"

// clientTokenTTL covers one call of the controller's client.
const clientTokenTTL = 5 * time.Minute

// ErrNotFound says that the registry has no such image.
var ErrNotFound = errors.New("the image is not in the registry")

// Client is the controller's access to the registry: it looks images up and
// deletes them. It makes a token for each call that fits only this call.
type Client struct {
	// Issuer signs the tokens.
	Issuer *token.Issuer
	// CAFile is the PEM certificate authority of the registry. It is read on
	// each call, so that a renewed one needs no restart.
	CAFile string
}

// Head returns the digest of the image's manifest, or ErrNotFound.
func (c *Client) Head(ctx context.Context, reference string) (string, error) {
	parsed, options, err := c.prepare(ctx, reference, token.ActionPull)
	if err != nil {
		return "", err
	}
	descriptor, err := remote.Head(parsed, options...)
	if hasStatus(err, http.StatusNotFound) {
		return "", fmt.Errorf("%s: %w", reference, ErrNotFound)
	} else if err != nil {
		return "", fmt.Errorf("look up %s: %w", reference, err)
	}
	return descriptor.Digest.String(), nil
}

// Delete removes the image. An image that is not there is no error, so a
// deletion that was interrupted can be repeated. The space of its layer is
// freed by the registry's garbage collection.
func (c *Client) Delete(ctx context.Context, reference string) error {
	digest, err := c.Head(ctx, reference)
	if errors.Is(err, ErrNotFound) {
		return nil
	} else if err != nil {
		return err
	}
	parsed, options, err := c.prepare(ctx, reference, token.ActionPull, token.ActionDelete)
	if err != nil {
		return err
	}
	err = remote.Delete(parsed.Context().Digest(digest), options...)
	if err != nil && !hasStatus(err, http.StatusNotFound) {
		return fmt.Errorf("delete %s: %w", reference, err)
	}
	return nil
}

// prepare parses the reference and makes credentials for the given actions on
// its repository only.
func (c *Client) prepare(ctx context.Context, reference string, actions ...string) (name.Reference, []remote.Option, error) {
	parsed, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return nil, nil, fmt.Errorf("image reference %q: %w", reference, err)
	}
	access := []token.Access{token.Repository(parsed.Context().RepositoryStr(), actions...)}
	signed, err := c.Issuer.Issue(token.IssuerName, access, clientTokenTTL)
	if err != nil {
		return nil, nil, err
	}
	ca, err := os.ReadFile(c.CAFile)
	if err != nil {
		return nil, nil, fmt.Errorf("read the registry's certificate authority: %w", err)
	}
	roundTripper, err := NewTransport(ca)
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", c.CAFile, err)
	}
	// Each call has its own connection: they are rare, and none is left open.
	roundTripper.DisableKeepAlives = true
	return parsed, []remote.Option{
		remote.WithContext(ctx),
		remote.WithAuth(StaticToken(signed)),
		remote.WithTransport(roundTripper),
	}, nil
}

// TokenSource returns the token to send with the next request. A token that is
// mounted into a pod is renewed there while a long import runs.
type TokenSource func() (string, error)

// StaticToken always returns the same token.
func StaticToken(signed string) TokenSource {
	return func() (string, error) { return signed, nil }
}

// Authorization implements authn.Authenticator.
func (s TokenSource) Authorization() (*authn.AuthConfig, error) {
	signed, err := s()
	if err != nil {
		return nil, fmt.Errorf("get the token for the image registry: %w", err)
	}
	return &authn.AuthConfig{Username: userName, Password: signed}, nil
}

// NewTransport makes an HTTP transport that trusts exactly the given PEM
// certificate authority. It stays with HTTP/1.1, which moves one big body
// faster than HTTP/2 does.
func NewTransport(ca []byte) (*http.Transport, error) {
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(ca) {
		return nil, trust.ErrNoCertificate
	}
	return &http.Transport{
		DialContext:           (&net.Dialer{Timeout: 10 * time.Second, KeepAlive: 15 * time.Second}).DialContext,
		TLSClientConfig:       &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: 10 * time.Second,
		IdleConnTimeout:       time.Minute,
		DisableCompression:    true,
	}, nil
}

// NewFileTransport makes a transport that trusts whom a file names at the time of each
// connection: a transfer may outlive an authority.
func NewFileTransport(file *trust.File) (*http.Transport, error) {
	made, err := NewTransport(file.PEM())
	if err != nil {
		return nil, err
	}
	made.DialTLSContext = file.Dial(made.DialContext, made.TLSClientConfig)
	return made, nil
}

// hasStatus tells whether the registry answered with the status.
func hasStatus(err error, status int) bool {
	var answer *transport.Error
	return errors.As(err, &answer) && answer.StatusCode == status
}
