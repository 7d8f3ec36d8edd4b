// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"math"
	"net/http"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// A layer begins with the length of the disk, so a file that does not tell it has
// to be read twice. What a client sends comes only once. So it is parked: brought
// into the registry as it is, as a blob that no manifest names, and imported from
// there. The registry's garbage collection removes it later.

// errUnmeasured says that a file has to be parked.
var errUnmeasured = errors.New("the length of the image is not known, and it comes only once")

// park brings the source's file into the registry as it is.
func (p *pass) park(ctx context.Context, file io.Reader) error {
	s, err := p.newParking(ctx)
	if err != nil {
		return err
	}
	if s.upload, err = s.pusher.Begin(ctx); err != nil {
		return registryFailure(err)
	}
	if err := p.openParking(file, 0); err != nil {
		return err
	}
	return p.completeParking(ctx, s, 0)
}

// newParking prepares to send a file without anything around it.
func (p *pass) newParking(ctx context.Context) (*sender, error) {
	s := &sender{pass: p, size: math.MaxInt64 / 2, parking: true}
	err := p.patiently(ctx, func() (err error) {
		s.pusher, err = dvcr.NewPusher(ctx, p.Destination, p.Token, p.Transport)
		return err
	})
	if err != nil {
		return nil, registryFailure(err)
	}
	return s, nil
}

func (p *pass) openParking(file io.Reader, start int64) (err error) {
	p.window, err = stream.NewWindow(stream.AtMost(file, p.MaxSize), stream.WindowOptions{
		Start: start, Every: p.ChunkSize, Capacity: p.ChunkSize + readAhead, Hashes: append([]hash.Hash{p.layer}, p.sums...),
	})
	if err != nil {
		return &source.ChangedError{Why: fmt.Sprintf("the checkpoint cannot be used: %v", err)}
	}
	return nil
}

// proceedParking goes on where an earlier importer was parking the file.
func (p *pass) proceedParking(ctx, sourceCtx context.Context) error {
	s, err := p.newParking(ctx)
	if err != nil {
		return err
	}
	s.kept = true
	if err := p.resumeUpload(ctx, s); err != nil {
		return err
	}
	start := p.resume.Offset
	err = p.reopenParking(sourceCtx)
	if err != nil {
		err = p.rootCause(err)
		s.abandon(ctx, err)
		return err
	}
	p.Logger.Info("continuing to park the image", "offset", start, "registry", s.stored)
	return p.completeParking(ctx, s, start)
}

func (p *pass) reopenParking(ctx context.Context) error {
	resumable, ok := p.Source.(source.Resumable)
	if !ok {
		return &source.ChangedError{Why: "the source cannot go on"}
	}
	if err := p.restoreHashes(); err != nil {
		return err
	}
	opened, err := resumable.OpenAt(ctx, p.resume.Offset, p.resume.Validator)
	if err != nil {
		return err
	}
	p.stream = &rememberingStream{Stream: opened}
	return p.openParking(p.stream, p.resume.Offset)
}

// completeParking sends the rest of the file and makes it the run's source.
func (p *pass) completeParking(ctx context.Context, s *sender, from int64) error {
	digest, err := s.sendParking(ctx, from)
	if err == nil {
		err = s.commit(ctx, digest)
	}
	if err == nil {
		err = p.useParked(digest.String())
	}
	if err != nil {
		err = p.rootCause(err)
		s.abandon(ctx, err)
		return err
	}
	p.run.size, p.size = source.UnknownSize, source.UnknownSize
	parked := report.Checkpoint{Sink: layerState{Parked: digest.String()}.encode()}
	p.save(parked)
	p.resume = nil
	return nil
}

func (s *sender) sendParking(ctx context.Context, from int64) (v1.Hash, error) {
	p := s.pass
	s.begin(from, p.stream.Size())
	for at := from; p.window.Await(at+1) > at; at = s.stored {
		if err := s.sendUntil(ctx, at+stretchChunks*p.ChunkSize); err != nil {
			return v1.Hash{}, err
		}
	}
	if err := p.window.Failure(); !errors.Is(err, io.EOF) {
		return v1.Hash{}, p.contentError(err)
	}
	p.window.Wait()
	if err := p.verify(); err != nil {
		return v1.Hash{}, err
	}
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(p.layer.Sum(nil))}, nil
}

func (s *sender) parkingCheckpoint(at int64) error {
	states, err := s.pass.window.States(at)
	if err != nil {
		return s.pass.contentError(err)
	}
	c := report.Checkpoint{
		Offset: at, Upload: s.location, Validator: s.pass.stream.Validator(),
		Sink: layerState{Parking: true}.encode(), Hashes: map[string][]byte{layerHash: states[0]},
	}
	for i, checksum := range s.pass.Checksums {
		c.Hashes[checksum.Algorithm] = states[1+i]
	}
	s.pass.save(c)
	s.kept = true
	return nil
}

// useParked makes the parked file the source of all further passes.
func (p *pass) useParked(digest string) error {
	hash, err := v1.NewHash(digest)
	if err != nil {
		return &source.ChangedError{Why: fmt.Sprintf("the checkpoint cannot be used: %v", err)}
	}
	transport, ok := p.Transport.(*http.Transport)
	if !ok {
		return errors.New("the registry's transport cannot be used to read from it")
	}
	parked, err := source.NewDVCRBlob(source.DVCROptions{Reference: p.Destination, Token: p.Token, Transport: transport}, hash)
	if err != nil {
		return err
	}
	first := p.Source
	p.Source, p.SinglePass, p.parked = &parkedFile{DVCR: parked, gone: func() {
		p.Source, p.SinglePass, p.parked = first, true, ""
	}}, false, digest
	return nil
}

// parkedFile is a file in the registry that nothing but its importer keeps there: while
// none runs for long it is collected, and has to be sent once more.
type parkedFile struct {
	*source.DVCR
	// gone gives the first source back.
	gone func()
}

// Open implements source.Source.
func (f *parkedFile) Open(ctx context.Context) (source.Stream, error) {
	opened, err := f.DVCR.Open(ctx)
	return opened, f.lost(err)
}

// OpenAt implements source.Resumable.
func (f *parkedFile) OpenAt(ctx context.Context, offset int64, validator string) (source.Stream, error) {
	opened, err := f.DVCR.OpenAt(ctx, offset, validator)
	return opened, f.lost(err)
}

func (f *parkedFile) lost(err error) error {
	var failure *source.Error
	if !errors.As(err, &failure) || failure.Reason != report.SourceNotFound {
		return err
	}
	f.gone()
	return &source.ChangedError{Why: "the registry has thrown the parked file away, because nobody asked for it for too long"}
}
