// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// copyBuffer is the unit in which content is read where nothing else says so.
const copyBuffer = 256 << 10

// pass is one way through the image, from its first byte or from a checkpoint
// to the last.
type pass struct {
	*run
	// size of the image as it will be stored; unknown for compressed images and
	// for servers that do not tell, until a pass has measured it.
	size     int64
	received int64

	stream *rememberingStream
	// raw are the bytes of a compressed source with the checksums beside. Those
	// of any other are hashed in the window.
	raw         *stream.HashingReader
	compression string
	// window holds the image's bytes and feeds the layer's hash.
	window *stream.Window
	layer  hash.Hash
	sums   []hash.Hash
	// head is the image's beginning; a pass that goes on has not seen it.
	head []byte
}

// execute either publishes the image or, if its size was unknown, measures it and
// returns nil.
func (p *pass) execute(ctx context.Context) (*report.Result, error) {
	sourceCtx, stop := context.WithCancel(ctx)
	defer p.close(stop)
	p.size = p.run.size
	p.layer, p.sums = newHashes(p.Checksums)
	result, err := p.process(ctx, sourceCtx)
	if err != nil {
		return nil, p.rootCause(err)
	}
	return result, nil
}

// close interrupts the reading ahead and waits for its end before it closes the
// stream, which belongs to one goroutine at a time.
func (p *pass) close(stop context.CancelFunc) {
	if p.window != nil {
		p.window.Close()
	}
	if p.raw != nil {
		p.raw.Close()
	}
	stop()
	if p.window != nil {
		p.window.Wait()
	}
	if p.raw != nil {
		p.raw.Wait()
	}
	if p.stream != nil {
		p.stream.Close()
		p.received = p.stream.Received()
	}
}

// rootCause prefers what the source failed with over what the stages behind it
// made of that.
func (p *pass) rootCause(err error) error {
	if p.stream == nil {
		return err
	}
	if cause := p.stream.failure(); cause != nil {
		return cause
	}
	return err
}

func (p *pass) process(ctx, sourceCtx context.Context) (*report.Result, error) {
	if p.resume != nil {
		return p.proceed(ctx, sourceCtx)
	}
	opened, err := p.Source.Open(sourceCtx)
	if err != nil {
		return nil, err
	}
	p.stream = &rememberingStream{Stream: opened}
	content, err := p.openContent(sourceCtx)
	if errors.Is(err, errUnmeasured) {
		return nil, p.park(ctx, content)
	} else if err != nil {
		return nil, err
	}
	if p.size == source.UnknownSize {
		return nil, p.measure(content)
	}
	info, err := p.look(content)
	if err != nil {
		return nil, err
	}
	return p.store(ctx, info)
}

// openContent looks whether the source's bytes are compressed and settles what
// is known about the size.
func (p *pass) openContent(ctx context.Context) (io.Reader, error) {
	head := make([]byte, hintSize)
	n, err := stream.Fill(p.stream, head)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	whole := io.MultiReader(bytes.NewReader(head[:n]), p.stream)
	p.compression = stream.Compression(head[:n])
	if p.compression == "" {
		if p.size == source.UnknownSize {
			p.size = p.stream.Size()
		}
		if p.size == source.UnknownSize && p.SinglePass && n > 0 {
			return whole, errUnmeasured
		}
		if p.size == source.UnknownSize {
			// Measured first; then the sums are what they are for a compressed file.
			p.raw = stream.NewHashingReader(whole, p.sums...)
			return stream.AtMost(p.raw, p.MaxSize), nil
		}
		return whole, nil
	}
	if p.size == source.UnknownSize && !p.unguessed {
		p.size = p.hint(ctx, head[:n])
	}
	if p.size == source.UnknownSize && p.SinglePass {
		return whole, errUnmeasured
	}
	p.raw = stream.NewHashingReader(whole, p.sums...)
	plain, err := stream.Decompress(p.compression, bufio.NewReaderSize(p.raw, copyBuffer))
	if err != nil {
		return nil, p.contentError(err)
	}
	return stream.AtMost(plain, p.MaxSize), nil
}

// measure looks at the head of an image, counts its rest and compares its
// checksums at once, so that a wrong file is not read twice.
func (p *pass) measure(content io.Reader) error {
	head, _, err := p.inspectHead(content)
	if err != nil {
		return err
	}
	// The total is not known, so only the speed can be seen.
	p.Status.Begin(report.PhaseTransferring, p.stream.Received, 0, 0)
	size, err := p.count(content)
	if err != nil {
		return err
	}
	if err := p.verify(); err != nil {
		return err
	}
	p.size = int64(len(head)) + size
	return nil
}

// inspectHead reads the head and looks at it.
func (p *pass) inspectHead(content io.Reader) ([]byte, image.Info, error) {
	head := make([]byte, image.HeadSize)
	n, err := stream.Fill(content, head)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, image.Info{}, p.contentError(err)
	}
	info, err := image.Inspect(head[:n], p.size)
	return head[:n], info, err
}

// count reads to the end.
func (p *pass) count(content io.Reader) (int64, error) {
	size, err := io.CopyBuffer(onlyWriter{io.Discard}, content, make([]byte, copyBuffer))
	if err != nil {
		return 0, p.contentError(err)
	}
	return size, nil
}

// onlyWriter hides io.Discard's own way of reading, which takes small steps.
type onlyWriter struct{ io.Writer }

// look opens the window on an image of known size and inspects its head.
func (p *pass) look(content io.Reader) (image.Info, error) {
	hashes := []hash.Hash{p.layer}
	if p.raw == nil {
		hashes = append(hashes, p.sums...)
	}
	options := p.windowOptions(0, p.size)
	options.Hashes = hashes
	// The layer's hash must have seen what is in front of the disk; what the file
	// is called follows from its format, which is in the head.
	held := &heldReader{Reader: content}
	head, info, err := p.inspectHead(held)
	if err != nil {
		return info, err
	}
	p.head = head
	before, err := p.disk(info, "").Head()
	if err != nil {
		return info, err
	}
	p.layer.Write(before)
	p.window, err = stream.NewWindow(stream.Exactly(io.MultiReader(bytes.NewReader(head), held), p.size), options)
	return info, err
}

// heldReader repeats the end of a stream, which a reader may not be asked for
// twice.
type heldReader struct {
	io.Reader
	err error
}

// Read implements io.Reader.
func (h *heldReader) Read(p []byte) (int, error) {
	if h.err != nil {
		return 0, h.err
	}
	n, err := h.Reader.Read(p)
	h.err = err
	return n, err
}

func (p *pass) disk(info image.Info, owner string) dvcr.Disk {
	return dvcr.Disk{Size: p.size, VirtualSize: info.VirtualSize, Format: string(info.Format), OwnerUID: owner}
}

// store uploads the layer and publishes the image.
func (p *pass) store(ctx context.Context, info image.Info) (*report.Result, error) {
	s, err := p.newSender(ctx, info)
	if err != nil {
		return nil, err
	}
	if s.upload, err = s.pusher.BeginSized(ctx, s.disk.LayerSize()); err != nil {
		return nil, registryFailure(err)
	}
	return p.complete(ctx, s)
}

// newSender prepares to send the layer of an image.
func (p *pass) newSender(ctx context.Context, info image.Info) (*sender, error) {
	var pusher *dvcr.Pusher
	err := p.patiently(ctx, func() (err error) {
		pusher, err = dvcr.NewPusher(ctx, p.Destination, p.Token, p.Transport)
		return err
	})
	if err != nil {
		return nil, registryFailure(err)
	}
	s := &sender{pass: p, pusher: pusher, info: info, disk: p.disk(info, pusher.Identifier())}
	if s.head, err = s.disk.Head(); err != nil {
		return nil, err
	}
	s.tail, s.size = s.disk.Tail(), s.disk.Size
	return s, nil
}

// complete sends the rest of the layer, verifies it and makes it an image.
func (p *pass) complete(ctx context.Context, s *sender) (*report.Result, error) {
	digest, err := s.send(ctx)
	if err == nil {
		err = s.commit(ctx, digest)
	}
	if err != nil {
		err = p.rootCause(err)
		s.abandon(ctx, err)
		return nil, err
	}
	return p.publish(ctx, s, digest)
}

// publish makes the layer an image, which only now can be seen.
func (p *pass) publish(ctx context.Context, s *sender, layer v1.Hash) (*report.Result, error) {
	p.Status.Phase(report.PhasePublishing)
	described, err := s.disk.Image(layer)
	if err != nil {
		return nil, err
	}
	var published string
	err = p.patiently(ctx, func() (err error) {
		published, err = s.pusher.Publish(ctx, described)
		return err
	})
	if err != nil {
		return nil, registryFailure(err)
	}
	return &report.Result{
		Digest:           published,
		Format:           string(s.info.Format),
		VirtualSizeBytes: s.info.VirtualSize,
		StoredSizeBytes:  p.size,
		CDROM:            s.info.CDROM,
	}, nil
}

// verify reads what the decompressor left of the file, because a checksum
// covers the whole, and compares.
func (p *pass) verify() error {
	if p.raw != nil {
		if _, err := io.Copy(io.Discard, p.raw); err != nil {
			return err
		}
		p.raw.Wait()
	}
	for i, checksum := range p.Checksums {
		if err := checksum.Check(p.sums[i]); err != nil {
			return err
		}
	}
	return nil
}

// contentError gives a failure to read the image's content a reason.
func (p *pass) contentError(err error) error {
	field := p.Fields.of(p.Fields.Image)
	switch {
	case errors.Is(err, stream.ErrTooLong):
		return &report.Failure{Reason: report.FormatRefused, Permanent: true, Field: field,
			Message: fmt.Sprintf("the image is larger than %d bytes, the most that is accepted", p.MaxSize)}
	case errors.Is(err, stream.ErrLength):
		return &source.ChangedError{Why: "the image has another length than before"}
	case p.compression != "":
		return &report.Failure{Reason: report.ImageCorrupt, Permanent: true, Field: field,
			Message: fmt.Sprintf("the image cannot be decompressed (%s): %v; check the file, or publish it without compression", p.compression, err)}
	}
	return err
}
