// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

// DVCROptions describe an image in the module's registry.
type DVCROptions struct {
	// Reference of the image, by its tag or its digest.
	Reference string
	// Token gives access to it.
	Token dvcr.TokenSource
	// Transport reaches the registry.
	Transport *http.Transport
	// Timing holds the timeouts and attempts; nothing else of it is used.
	Timing HTTPOptions
}

// DVCR is an image in the module's registry. Its disk is a range of bytes of its
// only layer, so it can be read at random and from anywhere on.
type DVCR struct {
	options   DVCROptions
	reference name.Reference
	streaming *http.Transport
	kept      *http.Transport
	// whole is a blob that is an image's file by itself; else it is in a layer.
	whole *v1.Hash
}

// NewDVCRBlob is a blob in the repository of the reference that is the file of an
// image as it was sent, maybe compressed. No manifest names it.
func NewDVCRBlob(options DVCROptions, digest v1.Hash) (*DVCR, error) {
	d, err := NewDVCR(options)
	if err != nil {
		return nil, err
	}
	d.whole = &digest
	return d, nil
}

// NewDVCR checks the options; it does not connect.
func NewDVCR(options DVCROptions) (*DVCR, error) {
	reference, err := name.ParseReference(options.Reference, name.StrictValidation)
	if err != nil {
		return nil, fmt.Errorf("image reference %q: %w", options.Reference, err)
	}
	options.Timing = options.Timing.withDefaults()
	d := &DVCR{options: options, reference: reference, streaming: options.Transport.Clone(), kept: options.Transport.Clone()}
	for _, t := range []*http.Transport{d.streaming, d.kept} {
		t.ResponseHeaderTimeout = options.Timing.HeaderTimeout
		t.MaxResponseHeaderBytes = maxResponseHeader
		t.MaxIdleConnsPerHost = keptConnections
	}
	d.streaming.DisableKeepAlives = true
	return d, nil
}

// String is the reference.
func (d *DVCR) String() string { return d.options.Reference }

// Open implements Source.
func (d *DVCR) Open(ctx context.Context) (Stream, error) {
	located, err := d.locate(ctx)
	if err != nil {
		return nil, err
	}
	return located.openAt(ctx, 0)
}

// OpenAt implements Resumable.
func (d *DVCR) OpenAt(ctx context.Context, offset int64, validator string) (Stream, error) {
	located, err := d.locate(ctx)
	if err != nil {
		return nil, err
	}
	if located.validator != validator || offset > located.size {
		return nil, &ChangedError{Why: "the image in the registry is another than the one that was begun"}
	}
	return located.openAt(ctx, offset)
}

// OpenRanged implements Ranged.
func (d *DVCR) OpenRanged(ctx context.Context) (ReaderAt, error) {
	located, err := d.locate(ctx)
	if err != nil {
		return nil, err
	}
	opened, err := located.blob.OpenRanged(ctx)
	if err != nil {
		return nil, registryError(err)
	}
	return &sectionAt{ReaderAt: opened, from: located.from, size: located.size, validator: located.validator}, nil
}

// locatedDisk is where the disk lies in its blob.
type locatedDisk struct {
	blob       *HTTP
	from, size int64
	validator  string
}

// locate reads manifest and the layer's head.
func (d *DVCR) locate(ctx context.Context) (*locatedDisk, error) {
	if d.whole != nil {
		return d.locateWhole(ctx)
	}
	layer, err := d.layer(ctx)
	if err != nil {
		return nil, d.failure(err)
	}
	located := &locatedDisk{blob: d.blob(layer.Digest), validator: layer.Digest.String()}
	opened, err := located.blob.OpenRanged(ctx)
	if err != nil {
		return nil, registryError(err)
	}
	defer opened.Close()
	head := make([]byte, dvcr.DiskOffset)
	if _, err := opened.ReadAt(head, 0); err != nil {
		return nil, registryError(err)
	}
	if located.from, located.size, err = dvcr.LocateDisk(head, opened.Size()); err != nil {
		return nil, &Error{Reason: report.ImageCorrupt, Permanent: true, Message: fmt.Sprintf("%s: %v", d.options.Reference, err)}
	}
	return located, nil
}

func (d *DVCR) locateWhole(ctx context.Context) (*locatedDisk, error) {
	located := &locatedDisk{blob: d.blob(*d.whole), validator: d.whole.String()}
	opened, err := located.blob.OpenRanged(ctx)
	if err != nil {
		return nil, registryError(err)
	}
	defer opened.Close()
	located.size = opened.Size()
	return located, nil
}

func (d *DVCR) layer(ctx context.Context) (v1.Descriptor, error) {
	image, err := remote.Image(d.reference, remote.WithContext(ctx), remote.WithAuth(d.options.Token), remote.WithTransport(d.kept))
	if err != nil {
		return v1.Descriptor{}, err
	}
	manifest, err := image.Manifest()
	if err != nil {
		return v1.Descriptor{}, err
	}
	if len(manifest.Layers) != 1 {
		return v1.Descriptor{}, &Error{Reason: report.ImageCorrupt, Permanent: true,
			Message: fmt.Sprintf("%s has %d layers: it was not made by this module", d.options.Reference, len(manifest.Layers))}
	}
	return manifest.Layers[0], nil
}

func (d *DVCR) blob(digest v1.Hash) *HTTP {
	repository := d.reference.Context()
	// The module's registry speaks nothing but TLS.
	from := &url.URL{Scheme: "https", Host: repository.RegistryStr(), Path: "/v2/" + repository.RepositoryStr() + "/blobs/" + digest.String()}
	blob := newHTTP(d.options.Timing, from, d.streaming, d.kept)
	blob.immutable = true
	blob.authorize = func(request *http.Request) error {
		credentials, err := d.options.Token.Authorization()
		if err != nil {
			return err
		}
		request.SetBasicAuth(credentials.Username, credentials.Password)
		return nil
	}
	return blob
}

func (d *DVCR) failure(err error) error {
	var (
		typed  *Error
		answer *transport.Error
	)
	switch {
	case errors.As(err, &typed):
		return typed
	case errors.Is(err, context.Canceled):
		return err
	case errors.As(err, &answer) && answer.StatusCode == http.StatusNotFound:
		return &Error{Reason: report.SourceNotFound, Message: "the image is no longer in the image registry: " + d.options.Reference}
	case errors.As(err, &answer):
		return &Error{Reason: report.RegistryUnavailable, Message: "the image registry " + dvcr.Answered(answer.StatusCode)}
	}
	var requested *url.Error
	if errors.As(err, &requested) {
		err = requested.Err
	}
	return &Error{Reason: report.RegistryUnavailable, Message: fmt.Sprintf("the image registry cannot be reached: %v", err)}
}

// registryError turns a web server's failure into the registry's: the user can
// change nothing about it.
func registryError(err error) error {
	var typed *Error
	if errors.Is(err, ErrNotRanged) {
		return &Error{Reason: report.RegistryUnavailable, Message: "the image registry does not serve ranges of the image"}
	}
	if !errors.As(err, &typed) {
		return err
	}
	changed := *typed
	changed.Field, changed.Permanent = "", false
	if changed.Reason != report.SourceNotFound {
		changed.Reason = report.RegistryUnavailable
	}
	return &changed
}

func (l *locatedDisk) openAt(ctx context.Context, offset int64) (Stream, error) {
	var opened Stream
	var err error
	if l.from+offset == 0 {
		opened, err = l.blob.Open(ctx)
	} else {
		opened, err = l.blob.OpenAt(ctx, l.from+offset, "")
	}
	if err != nil {
		return nil, registryError(err)
	}
	return &section{Stream: opened, size: l.size, left: l.size - offset, validator: l.validator}, nil
}

// section is the part of a blob that holds the disk.
type section struct {
	Stream
	size, left int64
	validator  string
}

// Size implements Stream.
func (s *section) Size() int64 { return s.size }

// Validator implements Stream.
func (s *section) Validator() string { return s.validator }

// Read implements io.Reader.
func (s *section) Read(p []byte) (int, error) {
	if s.left == 0 {
		return 0, io.EOF
	}
	n, err := s.Stream.Read(p[:min(int64(len(p)), s.left)])
	s.left -= int64(n)
	if errors.Is(err, io.EOF) && s.left > 0 {
		return n, &Error{Reason: report.RegistryUnavailable, Message: "the image registry sent less than the whole image"}
	}
	return n, registryError(err)
}

// sectionAt is the part of a blob that holds the disk.
type sectionAt struct {
	ReaderAt
	from, size int64
	validator  string
}

// Size implements ReaderAt.
func (s *sectionAt) Size() int64 { return s.size }

// Validator implements ReaderAt.
func (s *sectionAt) Validator() string { return s.validator }

// ReadAt implements io.ReaderAt.
func (s *sectionAt) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 || offset >= s.size {
		return 0, io.EOF
	}
	wanted := p[:min(int64(len(p)), s.size-offset)]
	n, err := s.ReaderAt.ReadAt(wanted, s.from+offset)
	if err == nil && n < len(p) {
		err = io.EOF
	}
	return n, registryError(err)
}
