// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package dvcr

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
)

// Bounds of the clean-up after a failed upload, which has to run when the
// upload's own context is over.
const (
	cancelTimeout  = 10 * time.Second
	cancelAttempts = 5
	cancelDelay    = 300 * time.Millisecond
)

// unknownLength of a request's body lets it end whenever it does.
const unknownLength = -1

var (
	// ErrFull says that the registry has no space for the image.
	ErrFull = errors.New("the image registry has no space left")
	// ErrDenied says that the registry does not accept the token.
	ErrDenied = errors.New("the image registry does not accept the importer's token")
	// ErrUploadUnknown says that an upload was finished, cancelled or thrown away
	// because it was idle for too long.
	ErrUploadUnknown = errors.New("the image registry does not know the upload")
	// ErrMismatch says that what was written does not have the digest.
	ErrMismatch = errors.New("the image registry has other bytes than the digest says")
)

// HeaderUploadLength tells the registry with the first request of an upload how
// long the layer will be, and with one that appends how much it brings at most, so
// that what cannot fit is refused before it is sent.
const HeaderUploadLength = "Upload-Length"

// Pusher puts one image into the registry.
//
// go-containerregistry's own upload of a stream compresses it, and cannot say
// its length in advance or take it back; the protocol is short, so the layer is
// uploaded here and everything around it by the library.
type Pusher struct {
	reference name.Reference
	token     TokenSource
	base      http.RoundTripper
	client    *http.Client
}

// NewPusher checks the reference and asks the registry how it authenticates.
func NewPusher(ctx context.Context, reference string, token TokenSource, base http.RoundTripper) (*Pusher, error) {
	parsed, err := name.ParseReference(reference, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %w", reference, err)
	}
	scopes := []string{parsed.Scope(transport.PushScope)}
	authorized, err := transport.NewWithContext(ctx, parsed.Context().Registry, token, base, scopes)
	if err != nil {
		return nil, registryError("reach the image registry", err)
	}
	return &Pusher{reference: parsed, token: token, base: base, client: &http.Client{Transport: authorized}}, nil
}

// Identifier is the image's tag.
func (p *Pusher) Identifier() string { return p.reference.Identifier() }

// Upload is a layer on its way.
type Upload struct {
	pusher *Pusher
	// location is where the next request of the protocol goes.
	location *url.URL
	// announced is how long the layer or the body will be, if the next request tells.
	announced int64
	// stored is what the registry says it has.
	stored int64
}

// Begin starts the upload of a layer.
func (p *Pusher) Begin(ctx context.Context) (*Upload, error) { return p.BeginSized(ctx, 0) }

// BeginSized starts the upload of a layer whose size is known: the registry is
// asked whether it has room for it.
func (p *Pusher) BeginSized(ctx context.Context, size int64) (*Upload, error) {
	start := &url.URL{
		Scheme: p.reference.Context().Scheme(),
		Host:   p.reference.Context().RegistryStr(),
		Path:   "/v2/" + p.reference.Context().RepositoryStr() + "/blobs/uploads/",
	}
	upload := &Upload{pusher: p, location: start, announced: size}
	if err := upload.send(ctx, http.MethodPost, nil, 0, http.StatusAccepted); err != nil {
		return nil, registryError("begin the upload", err)
	}
	upload.announced = 0
	return upload, nil
}

// Resume goes on with an upload whose Location was kept. The location leads to
// the same registry, whatever it says about hosts. Offset comes before Write.
func (p *Pusher) Resume(location string) (*Upload, error) {
	kept, err := url.Parse(location)
	if err != nil || !strings.HasPrefix(kept.Path, "/v2/"+p.reference.Context().RepositoryStr()+"/blobs/uploads/") {
		return nil, fmt.Errorf("%w: %q is no upload to this repository", ErrUploadUnknown, kept)
	}
	kept.Scheme, kept.Host, kept.User = p.reference.Context().Scheme(), p.reference.Context().RegistryStr(), nil
	return &Upload{pusher: p, location: kept}, nil
}

// HasBlob tells whether the registry has a blob in the image's repository.
func (p *Pusher) HasBlob(ctx context.Context, digest v1.Hash) (bool, error) {
	blob := &url.URL{
		Scheme: p.reference.Context().Scheme(),
		Host:   p.reference.Context().RegistryStr(),
		Path:   "/v2/" + p.reference.Context().RepositoryStr() + "/blobs/" + digest.String(),
	}
	err := (&Upload{pusher: p, location: blob}).send(ctx, http.MethodHead, nil, 0, http.StatusOK)
	if hasStatus(err, http.StatusNotFound) {
		return false, nil
	}
	if err != nil {
		return false, registryError("look for the layer", err)
	}
	return true, nil
}

// Location is where the upload goes on, for Resume.
func (u *Upload) Location() string { return u.location.RequestURI() }

// Probe is the same upload for asking for its Offset while a request of the other
// is under way, as many times as needed. Nothing else can be done with it.
func (u *Upload) Probe() *Upload { return &Upload{pusher: u.pusher, location: u.location} }

// Offset asks the registry how many bytes it has, which are durable when it answers.
// After a request that broke, or while one is under way, it may have a part of that
// request's body. The next Write or Append appends to them.
func (u *Upload) Offset(ctx context.Context) (int64, error) {
	u.stored = 0
	if err := u.send(ctx, http.MethodGet, nil, 0, http.StatusNoContent); err != nil {
		return 0, registryError("ask for the upload's status", err)
	}
	return u.stored, nil
}

// Write appends size bytes of the layer. The registry is asked first whether it
// has room for them.
func (u *Upload) Write(ctx context.Context, layer io.Reader, size int64) error {
	if err := u.send(ctx, http.MethodPatch, layer, size, http.StatusAccepted, http.StatusNoContent); err != nil {
		return registryError("upload the image", err)
	}
	return nil
}

// Append appends what the layer's reader gives until it ends, which is at most the
// given number of bytes: the registry is asked first whether it has room for them. A
// reader that ends early loses nothing of what it gave.
func (u *Upload) Append(ctx context.Context, layer io.Reader, most int64) error {
	u.announced = most
	defer func() { u.announced = 0 }()
	if err := u.send(ctx, http.MethodPatch, layer, unknownLength, http.StatusAccepted, http.StatusNoContent); err != nil {
		return registryError("upload the image", err)
	}
	return nil
}

// Commit turns what was written into a blob of the given digest, which the
// registry verifies.
func (u *Upload) Commit(ctx context.Context, digest v1.Hash) error {
	query := u.location.Query()
	query.Set("digest", digest.String())
	u.location.RawQuery = query.Encode()
	if err := u.send(ctx, http.MethodPut, nil, 0, http.StatusCreated); hasStatus(err, http.StatusBadRequest) {
		return fmt.Errorf("finish the upload: the registry answered 400 Bad Request: %w", ErrMismatch)
	} else if err != nil {
		return registryError("finish the upload", err)
	}
	return nil
}

// Cancel throws away what was written, so that it does not hold space. It works
// after the context has ended.
func (u *Upload) Cancel(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer cancel()
	var err error
	for range cancelAttempts {
		if err = u.cancelOnce(ctx); err == nil {
			return nil
		}
		// The registry may still be busy with the request that broke.
		select {
		case <-ctx.Done():
			return err
		case <-time.After(cancelDelay):
		}
	}
	return err
}

func (u *Upload) cancelOnce(ctx context.Context) error {
	// After a broken request the registry holds more than the location says:
	// its status gives a location that fits.
	if err := u.send(ctx, http.MethodGet, nil, 0, http.StatusNoContent); err != nil {
		return registryError("ask for the upload's status", err)
	}
	if err := u.send(ctx, http.MethodDelete, nil, 0, http.StatusNoContent, http.StatusAccepted); err != nil {
		return registryError("cancel the upload", err)
	}
	return nil
}

// send makes one request of the upload protocol and remembers where the next
// one goes.
func (u *Upload) send(ctx context.Context, method string, body io.Reader, size int64, accepted ...int) error {
	if body != nil {
		// The transport closes a body that can be closed; this one is the caller's.
		body = io.NopCloser(body)
	}
	request, err := http.NewRequestWithContext(ctx, method, u.location.String(), body)
	if err != nil {
		return err
	}
	if body != nil {
		request.ContentLength = size
		request.Header.Set("Content-Type", "application/octet-stream")
		request.Header.Set("Expect", "100-continue")
	}
	if u.announced > 0 {
		request.Header.Set(HeaderUploadLength, strconv.FormatInt(u.announced, 10))
	}
	response, err := u.pusher.client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if err := transport.CheckError(response, accepted...); err != nil {
		return err
	}
	u.stored = storedBytes(response.Header.Get("Range"))
	location := response.Header.Get("Location")
	if location == "" {
		return nil
	}
	next, err := u.location.Parse(location)
	if err != nil {
		return fmt.Errorf("the registry names an invalid location: %w", err)
	}
	// The next request carries the token, so it goes to the same registry only.
	if next.Host != u.location.Host || next.Scheme != u.location.Scheme {
		return fmt.Errorf("the registry names a location on another host: %s", next.Host)
	}
	u.location = next
	return nil
}

// storedBytes reads the range that the registry has: 0-<last byte>. Of a single
// byte it says the same as of none, so that is taken for none.
func storedBytes(header string) int64 {
	first, last, _ := strings.Cut(strings.TrimPrefix(header, "bytes="), "-")
	n, err := strconv.ParseInt(last, 10, 63)
	if err != nil || first != "0" || n <= 0 {
		return 0
	}
	return n + 1
}

// Publish pushes configuration and manifest of an image whose layer is
// committed and returns the manifest's digest. Only now can the image be seen.
func (p *Pusher) Publish(ctx context.Context, image v1.Image) (string, error) {
	err := remote.Write(p.reference, image,
		remote.WithContext(ctx), remote.WithAuth(p.token), remote.WithTransport(p.base))
	if err != nil {
		return "", registryError("publish the image", err)
	}
	digest, err := image.Digest()
	if err != nil {
		return "", fmt.Errorf("digest of the manifest: %w", err)
	}
	return digest.String(), nil
}

// Remove deletes the image, which Publish gave the digest. The token has to
// allow it.
func (p *Pusher) Remove(ctx context.Context, digest string) error {
	err := remote.Delete(p.reference.Context().Digest(digest),
		remote.WithContext(ctx), remote.WithAuth(p.token), remote.WithTransport(p.base))
	if err != nil && !hasStatus(err, http.StatusNotFound) {
		return registryError("remove the image", err)
	}
	return nil
}

// registryError marks the errors that have a reason of their own and drops the
// request's URL, whose query holds the signed state of the upload.
func registryError(doing string, err error) error {
	var requested *url.Error
	if errors.As(err, &requested) {
		err = requested.Err
	}
	var answer *transport.Error
	if !errors.As(err, &answer) {
		return fmt.Errorf("%s: %w", doing, err)
	}
	switch answer.StatusCode {
	case http.StatusInsufficientStorage:
		return fmt.Errorf("%s: %w", doing, ErrFull)
	case http.StatusUnauthorized, http.StatusForbidden:
		return fmt.Errorf("%s: %w", doing, ErrDenied)
	case http.StatusNotFound:
		return fmt.Errorf("%s: %w", doing, ErrUploadUnknown)
	}
	return fmt.Errorf("%s: the registry %s", doing, Answered(answer.StatusCode))
}

// Answered tells what the registry answered, and where an administrator finds the cause if that is its own: its clients
// are tenants, who are told nothing of its storage.
func Answered(status int) string {
	text := fmt.Sprintf("answered %d %s", status, http.StatusText(status))
	if status >= http.StatusInternalServerError {
		text += "; why is in the log of Deployment dvcr in d8-virtualization, which an administrator can read"
	}
	return text
}
