// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"fmt"
	"hash"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// proceed goes on where the checkpoint says. Whatever does not fit together any
// more is a *source.ChangedError, and the image is begun anew.
func (p *pass) proceed(ctx, sourceCtx context.Context) (*report.Result, error) {
	state, digest, err := layerStateOf(p.resume)
	if err != nil {
		return nil, err
	}
	if state.Parking {
		return nil, p.proceedParking(ctx, sourceCtx)
	}
	if state.Parked != "" && p.parked == "" {
		if err := p.useParked(state.Parked); err != nil {
			return nil, err
		}
	}
	if state.Format == "" {
		p.resume = nil
		return p.process(ctx, sourceCtx)
	}
	p.size, p.compression = p.resume.Size, state.Compression
	s, err := p.newSender(ctx, image.Info{Format: state.Format, VirtualSize: state.VirtualSize, CDROM: state.CDROM})
	if err != nil {
		return nil, err
	}
	s.kept = true
	if state.Digest != "" {
		return p.finish(ctx, s, digest)
	}
	if err := p.resumeUpload(ctx, s); err != nil {
		return nil, err
	}
	if err := p.reopen(sourceCtx); err != nil {
		err = p.rootCause(err)
		s.abandon(ctx, err)
		return nil, err
	}
	p.Logger.Info("continuing the image", "offset", p.start(), "registry", s.stored, "bytes", p.size)
	return p.complete(ctx, s)
}

// resumeUpload asks the registry what it has.
func (p *pass) resumeUpload(ctx context.Context, s *sender) error {
	upload, err := s.pusher.Resume(p.resume.Upload)
	if err == nil {
		s.upload = upload
		err = p.patiently(ctx, func() (err error) {
			s.stored, err = upload.Offset(ctx)
			return err
		})
	}
	switch {
	case errors.Is(err, dvcr.ErrUploadUnknown):
		return &source.ChangedError{Why: "the registry has thrown away what it had, because nothing came for too long"}
	case err != nil:
		return registryFailure(err)
	case s.stored < s.offset()+p.resume.Offset || s.stored > s.offset()+s.size+int64(len(s.tail)):
		s.abandon(ctx, &source.ChangedError{})
		return &source.ChangedError{Why: fmt.Sprintf("the registry has %d bytes, which is not what was sent", s.stored)}
	}
	return nil
}

// reopen opens the source at the checkpoint, or at its first byte where nothing
// else is possible; the registry is then sent only what it lacks.
func (p *pass) reopen(ctx context.Context) error {
	resumable, ok := p.Source.(source.Resumable)
	if !ok || p.compression != "" {
		return p.reopenWhole(ctx)
	}
	hashes := append([]hash.Hash{p.layer}, p.sums...)
	if err := p.restoreHashes(); err != nil {
		return err
	}
	opened, err := resumable.OpenAt(ctx, p.resume.Offset, p.resume.Validator)
	if err != nil {
		return err
	}
	p.stream = &rememberingStream{Stream: opened}
	if size := opened.Size(); size != source.UnknownSize && size != p.size {
		return &source.ChangedError{Why: fmt.Sprintf("the image had %d bytes and now has %d", p.size, size)}
	}
	options := p.windowOptions(p.resume.Offset, p.size)
	options.Hashes = hashes
	p.window, err = stream.NewWindow(stream.Exactly(p.stream, p.size-p.resume.Offset), options)
	if err != nil {
		return &source.ChangedError{Why: fmt.Sprintf("the checkpoint cannot be used: %v", err)}
	}
	return nil
}

// restoreHashes brings the hashes to where the checkpoint is.
func (p *pass) restoreHashes() error {
	if err := restore(p.resume, layerHash, p.layer); err != nil {
		return err
	}
	for i, checksum := range p.Checksums {
		if err := restore(p.resume, checksum.Algorithm, p.sums[i]); err != nil {
			return err
		}
	}
	return nil
}

// reopenWhole reads the image once more from its beginning.
func (p *pass) reopenWhole(ctx context.Context) error {
	opened, err := p.Source.Open(ctx)
	if err != nil {
		return err
	}
	p.stream = &rememberingStream{Stream: opened}
	if opened.Validator() != p.resume.Validator {
		return &source.ChangedError{Why: "the source has another image than the one that was begun"}
	}
	state, _, err := layerStateOf(p.resume)
	if err != nil {
		return err
	}
	content, err := p.openContent(ctx)
	if err != nil {
		return err
	}
	info, err := p.look(content)
	if err != nil {
		return err
	}
	if p.compression != state.Compression || info.Format != state.Format || info.VirtualSize != state.VirtualSize {
		return &source.ChangedError{Why: "the source has another image than the one that was begun"}
	}
	return nil
}

// start is where the window begins.
func (p *pass) start() int64 {
	if p.resume == nil || p.compression != "" || p.raw != nil {
		return 0
	}
	if _, ok := p.Source.(source.Resumable); !ok {
		return 0
	}
	return p.resume.Offset
}

// finish ends an import whose layer was sent and verified by an earlier importer.
func (p *pass) finish(ctx context.Context, s *sender, digest v1.Hash) (*report.Result, error) {
	p.Status.Phase(report.PhasePublishing)
	var has bool
	err := p.patiently(ctx, func() (err error) {
		has, err = s.pusher.HasBlob(ctx, digest)
		return err
	})
	if err != nil {
		return nil, registryFailure(err)
	}
	if !has {
		if err := p.resumeUpload(ctx, s); err != nil {
			return nil, err
		}
		if err := s.commit(ctx, digest); err != nil {
			s.abandon(ctx, err)
			return nil, err
		}
	}
	return p.publish(ctx, s, digest)
}
