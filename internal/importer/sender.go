// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const (
	// firstPause before the registry is asked again, doubled up to longestPause.
	firstPause   = 250 * time.Millisecond
	longestPause = 10 * time.Second
	// registryStall is how long the registry may take nothing, and how long it may
	// take to write a chunk to its disk.
	registryStall = 2 * time.Minute
)

// sender brings one layer into the registry. What of it the registry has is known to
// be durable only when the registry has answered.
type sender struct {
	pass   *pass
	pusher *dvcr.Pusher
	upload *dvcr.Upload
	info   image.Info
	disk   dvcr.Disk
	// head and tail are around the disk in the layer, and size is the disk's.
	head, tail []byte
	size       int64
	// parking tells that the file comes as it is and to an unknown end.
	parking bool
	// stored is how much of the layer the registry has, and settled how much of the
	// disk was given up, because there is a checkpoint behind it.
	stored, settled int64
	// location is what a checkpoint says of the upload; a request under way moves the
	// upload's own.
	location string
	// sent is how much of the disk is on its way, for the status.
	sent atomic.Int64
	// kept tells that another importer can go on from a checkpoint.
	kept bool
}

// send sends what the registry lacks and returns the digest of the layer, whose
// content is then known to be what was promised.
func (s *sender) send(ctx context.Context) (v1.Hash, error) {
	p := s.pass
	from := p.start()
	s.begin(from, p.size)
	for at := from; at < p.size; {
		end := at + stretchChunks*p.ChunkSize
		if end > s.lastMark() {
			end = p.size // The last stretch holds all of the image's tail.
		}
		if err := s.sendUntil(ctx, end); err != nil {
			return v1.Hash{}, err
		}
		at = end
	}
	return s.verify()
}

// begin tells the status that the disk is sent from an offset on.
func (s *sender) begin(from, size int64) {
	s.settled, s.location = from, s.upload.Location()
	s.sent.Store(from)
	// What is around the disk in the layer is sent, too.
	sent := func() int64 { return min(s.sent.Load(), s.size) }
	s.pass.Status.Begin(report.PhaseTransferring, sent, from, size)
}

// lastMark is the last place for a checkpoint: the end of the image is looked at
// again.
func (s *sender) lastMark() int64 {
	if s.parking {
		return s.size
	}
	return s.size - image.TailSize
}

// sendUntil makes the registry have everything up to an offset of the disk, and the
// end of the layer with the end of the disk. What comes to an unknown end may end
// before.
func (s *sender) sendUntil(ctx context.Context, end int64) error {
	until := s.offset() + end
	if end == s.size {
		until += int64(len(s.tail))
	}
	// What an earlier importer has sent is read here for its hash only.
	if err := s.settle(ctx, s.stored); err != nil {
		return err
	}
	// Patience begins with the first failure behind what was reached.
	var patience *patience
	for reached := int64(-1); s.stored < until; {
		err := s.write(ctx, until)
		if err := s.settle(ctx, s.stored); err != nil {
			return err
		}
		if err == nil {
			break
		}
		if at := s.least(); at > reached {
			reached, patience = at, s.pass.newPatience()
		}
		if err := s.recover(ctx, err, until, patience); err != nil {
			return err
		}
	}
	s.sent.Store(max(s.sent.Load(), min(end, s.stored-s.offset())))
	return nil
}

// offset is where the disk begins in what is sent.
func (s *sender) offset() int64 { return int64(len(s.head)) }

// contentFailure keeps the source's faults apart from the registry's.
type contentFailure struct{ error }

// recover waits for a registry that is away and asks it what it has.
func (s *sender) recover(ctx context.Context, cause error, until int64, patience *patience) error {
	var content *contentFailure
	if errors.As(cause, &content) {
		return s.pass.contentError(content.error)
	}
	for {
		if err := patience.wait(ctx, cause); err != nil {
			return registryFailure(err)
		}
		stored, err := s.upload.Offset(ctx)
		switch {
		case errors.Is(err, dvcr.ErrUploadUnknown):
			return &source.ChangedError{Why: "the registry has lost what it had"}
		case err != nil:
			cause = err
			continue
		case stored < s.least() || stored > until:
			return &source.ChangedError{Why: fmt.Sprintf("the registry has %d bytes, which is not what was sent", stored)}
		}
		s.pass.Logger.Info("continuing the upload", "after", cause, "offset", stored)
		s.pass.Status.Phase(report.PhaseTransferring)
		s.stored = stored
		s.sent.Store(max(stored-s.offset(), 0))
		return nil
	}
}

// least is how much of the layer the registry cannot have lost.
func (s *sender) least() int64 {
	if s.settled == 0 {
		return s.stored
	}
	return max(s.stored, s.offset()+s.settled)
}

// checkpoint keeps where another importer can go on.
func (s *sender) checkpoint(at int64) error {
	if s.parking {
		return s.parkingCheckpoint(at)
	}
	p := s.pass
	states, err := p.window.States(at)
	if err != nil {
		return p.contentError(err)
	}
	c := s.describe("")
	c.Hashes = map[string][]byte{layerHash: states[0]}
	if p.raw == nil {
		c.Offset = at
		for i, checksum := range p.Checksums {
			c.Hashes[checksum.Algorithm] = states[1+i]
		}
	}
	p.save(c)
	s.kept = true
	return nil
}

// describe is a checkpoint without a place.
func (s *sender) describe(digest string) report.Checkpoint {
	state := layerState{
		Format: s.info.Format, VirtualSize: s.info.VirtualSize, CDROM: s.info.CDROM, Compression: s.pass.compression, Digest: digest,
		Parked: s.pass.parked,
	}
	c := report.Checkpoint{Size: s.pass.size, Upload: s.location, Sink: state.encode()}
	if s.pass.stream != nil {
		c.Validator = s.pass.stream.Validator()
	}
	return c
}

// verify reads to the very end, compares the checksums and returns the digest.
func (s *sender) verify() (v1.Hash, error) {
	p := s.pass
	if _, err := p.window.Reader(p.size, p.size+1).Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		return v1.Hash{}, p.contentError(err)
	}
	p.window.Wait()
	if err := p.verify(); err != nil {
		return v1.Hash{}, err
	}
	if err := s.judge(); err != nil {
		return v1.Hash{}, err
	}
	p.layer.Write(s.tail)
	s.location = s.upload.Location()
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(p.layer.Sum(nil))}
	p.save(s.describe(digest.String()))
	return digest, nil
}

// judge inspects the image again with its end, where a fixed VHD tells that it is
// not the raw disk that it looks like.
func (s *sender) judge() error {
	p := s.pass
	tail := make([]byte, min(image.TailSize, p.size))
	if _, err := io.ReadFull(p.window.Reader(p.size-int64(len(tail)), p.size), tail); err != nil {
		return err
	}
	head := p.head
	if head == nil {
		if s.info.Format != image.FormatRaw {
			return nil
		}
		// An earlier pass has accepted the head as raw, as it would a blank one.
		head = make([]byte, min(image.HeadSize, p.size))
	}
	info, err := image.InspectTail(head, tail, p.size)
	switch {
	case err == nil:
		s.info = info
	case p.head != nil:
		return err
	}
	s.disk.Format, s.disk.VirtualSize = string(s.info.Format), s.info.VirtualSize
	return nil
}

// commit makes the layer a blob. A registry that went away meanwhile may have
// done it already.
func (s *sender) commit(ctx context.Context, digest v1.Hash) error {
	s.pass.Status.Phase(report.PhasePublishing)
	again := false
	err := s.pass.patiently(ctx, func() error {
		if again {
			if has, err := s.pusher.HasBlob(ctx, digest); err != nil || has {
				return err
			}
			if _, err := s.upload.Offset(ctx); err != nil {
				return err
			}
		}
		again = true
		return s.upload.Commit(ctx, digest)
	})
	switch {
	case err == nil:
		return nil
	case errors.Is(err, dvcr.ErrUploadUnknown):
		return &source.ChangedError{Why: "the registry has lost what it had"}
	case errors.Is(err, dvcr.ErrMismatch):
		return &source.ChangedError{Why: "the registry has other bytes than were sent"}
	}
	return registryFailure(err)
}

// abandon throws away what the registry has, unless another importer is to go
// on with it: half an image must not fill the registry.
func (s *sender) abandon(ctx context.Context, cause error) {
	var changed *source.ChangedError
	verdict := failureOf(ctx, cause, s.pass.Fields)
	passes := !errors.As(cause, &changed) && !verdict.Permanent && verdict.Reason != report.RegistryFull
	if s.upload == nil || s.kept && passes && s.pass.Save != nil {
		return
	}
	s.pass.resume = nil
	if err := s.upload.Cancel(ctx); err != nil && !errors.Is(err, dvcr.ErrUploadUnknown) {
		s.pass.Logger.Warn("the broken upload stays until the registry removes it", "error", err)
	}
}

// visiblePause is the least pause that is worth a word to the user: a registry that is
// away for a moment is nobody's business.
const visiblePause = 2 * time.Second

// patience bounds how long the registry may be away at a time: its pod is moved
// or restarted now and then.
type patience struct {
	run   *run
	until time.Time
	pause time.Duration
}

func (r *run) newPatience() *patience {
	return &patience{run: r, until: r.Clock.Now().Add(r.RegistryPatience), pause: firstPause}
}

// wait pauses before the registry is asked again. It returns the cause if that
// makes no sense, or not any more.
func (p *patience) wait(ctx context.Context, cause error) error {
	for _, lasting := range []error{dvcr.ErrFull, dvcr.ErrDenied, dvcr.ErrUploadUnknown, dvcr.ErrMismatch} {
		if errors.Is(cause, lasting) {
			return cause
		}
	}
	if ctx.Err() != nil || !p.run.Clock.Now().Add(p.pause).Before(p.until) {
		return cause
	}
	p.run.Logger.Warn("the image registry fails, it is asked again soon", "error", cause, "in", p.pause)
	var failure *report.Failure
	if p.pause >= visiblePause && errors.As(registryFailure(cause), &failure) {
		p.run.Status.Failed(failure)
	}
	if err := p.run.wait(ctx, p.pause); err != nil {
		return cause
	}
	p.pause = min(2*p.pause, longestPause)
	return nil
}

// patiently calls until it succeeds or there is no sense in it.
func (r *run) patiently(ctx context.Context, call func() error) error {
	patience := r.newPatience()
	for {
		err := call()
		if err == nil {
			if patience.pause > firstPause {
				r.Status.Recovered()
			}
			return nil
		}
		if err := patience.wait(ctx, err); err != nil {
			return err
		}
	}
}
