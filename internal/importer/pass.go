// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
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

// pass is one way through the image, from its first byte to the last.
type pass struct {
	options Options
	// size of the image as it will be stored; unknown for compressed images and
	// for servers that do not tell, until a pass has measured it.
	size     int64
	received int64

	stream source.Stream
	// raw are the source's bytes with the checksums beside.
	raw  *stream.HashingReader
	sums []hash.Hash
	// content are the image's bytes.
	content     io.Reader
	compression string
}

// run either publishes the image or, if its size was unknown, measures it and
// returns nil.
func (p *pass) run(ctx context.Context) (*report.Result, error) {
	sourceCtx, stop := context.WithCancel(ctx)
	opened, err := p.options.Source.Open(sourceCtx)
	if err != nil {
		stop()
		return nil, err
	}
	p.stream = &rememberingStream{Stream: opened}
	for _, checksum := range p.options.Checksums {
		p.sums = append(p.sums, checksum.NewHash())
	}
	p.raw = stream.NewHashingReader(p.stream, p.sums...)
	defer p.close(stop)
	result, err := p.process(ctx)
	if err != nil {
		return nil, p.rootCause(err)
	}
	return result, nil
}

// close interrupts the reading ahead and waits for its end before it closes the
// stream, which belongs to one goroutine at a time.
func (p *pass) close(stop context.CancelFunc) {
	p.raw.Close()
	stop()
	p.raw.Wait()
	p.stream.Close()
	p.received = p.stream.Received()
}

// rootCause prefers what the source failed with over what the stages behind it
// made of that.
func (p *pass) rootCause(err error) error {
	if cause := p.stream.(*rememberingStream).failure(); cause != nil {
		return cause
	}
	return err
}

func (p *pass) process(ctx context.Context) (*report.Result, error) {
	if err := p.openContent(); err != nil {
		return nil, err
	}
	head := make([]byte, image.HeadSize)
	n, err := stream.Fill(p.content, head)
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, p.contentError(err)
	}
	head = head[:n]
	info, err := image.Inspect(head, p.size)
	if err != nil {
		return nil, err
	}
	p.content = io.MultiReader(bytes.NewReader(head), p.content)
	if p.size == source.UnknownSize {
		return nil, p.measure(ctx)
	}
	return p.store(ctx, info)
}

// openContent looks whether the source's bytes are compressed and settles what
// is known about the size.
func (p *pass) openContent() error {
	buffered := bufio.NewReaderSize(p.raw, copyBuffer)
	magic, err := buffered.Peek(stream.MagicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	p.compression = stream.Compression(magic)
	if p.compression == "" {
		if p.size == source.UnknownSize {
			p.size = p.stream.Size()
		}
		p.content = buffered
		if p.size == source.UnknownSize {
			p.content = stream.AtMost(buffered, p.options.MaxSize)
		}
		return nil
	}
	plain, err := stream.Decompress(p.compression, buffered)
	if err != nil {
		return p.contentError(err)
	}
	p.content = stream.AtMost(plain, p.options.MaxSize)
	return nil
}

// measure counts the rest of an image and compares its checksums at once, so
// that a wrong file is not read twice.
func (p *pass) measure(ctx context.Context) error {
	// The total is not known, so only the speed can be seen.
	stop := p.options.Reporter.Start(ctx, p.stream.Received, 0)
	defer stop()
	size, err := io.CopyBuffer(onlyWriter{io.Discard}, p.content, make([]byte, copyBuffer))
	if err != nil {
		return p.contentError(err)
	}
	if err := p.verify(); err != nil {
		return err
	}
	p.size = size
	return nil
}

// onlyWriter hides io.Discard's own way of reading, which takes small steps.
type onlyWriter struct{ io.Writer }

// store uploads the layer and publishes the image.
func (p *pass) store(ctx context.Context, info image.Info) (*report.Result, error) {
	pusher, err := dvcr.NewPusher(ctx, p.options.Destination, p.options.Token, p.options.Transport)
	if err != nil {
		return nil, registryFailure(err)
	}
	disk := dvcr.Disk{Size: p.size, VirtualSize: info.VirtualSize, Format: string(info.Format), OwnerUID: pusher.Identifier()}
	upload, err := pusher.Begin(ctx)
	if err != nil {
		return nil, registryFailure(err)
	}
	digest, err := p.upload(ctx, upload, disk)
	if err != nil {
		// Half an image must not fill the registry until somebody cleans up.
		if cancelErr := upload.Cancel(ctx); cancelErr != nil {
			p.options.Logger.Warn("the broken upload stays until the registry removes it", "error", cancelErr)
		}
		return nil, err
	}
	published, err := publish(ctx, pusher, disk, digest)
	if err != nil {
		return nil, registryFailure(err)
	}
	return &report.Result{
		Digest:           published,
		Format:           string(info.Format),
		VirtualSizeBytes: info.VirtualSize,
		StoredSizeBytes:  p.size,
		CDROM:            info.CDROM,
	}, nil
}

// upload sends the layer, verifies what went through and only then makes it a
// blob.
func (p *pass) upload(ctx context.Context, upload *dvcr.Upload, disk dvcr.Disk) (v1.Hash, error) {
	counted := stream.NewCounter(stream.Exactly(p.content, p.size))
	stop := p.options.Reporter.Start(ctx, counted.Count, p.size)
	defer stop()
	layer, err := disk.Layer(counted)
	if err != nil {
		return v1.Hash{}, err
	}
	sum := sha256.New()
	hashed := stream.NewHashingReader(layer, sum)
	// The reading ahead uses the source, which the caller is about to close.
	defer hashed.Close()
	body := &rememberingReader{Reader: hashed}
	if err := upload.Write(ctx, body, disk.LayerSize()); err != nil {
		if cause := body.failure(); cause != nil {
			return v1.Hash{}, p.contentError(cause)
		}
		return v1.Hash{}, registryFailure(err)
	}
	// The transport stops at the promised length; the end has to be there, too.
	if _, err := io.Copy(io.Discard, hashed); err != nil {
		return v1.Hash{}, p.contentError(err)
	}
	hashed.Wait()
	if err := p.verify(); err != nil {
		return v1.Hash{}, err
	}
	digest := v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(sum.Sum(nil))}
	if err := upload.Commit(ctx, digest); err != nil {
		return v1.Hash{}, registryFailure(err)
	}
	return digest, nil
}

func publish(ctx context.Context, pusher *dvcr.Pusher, disk dvcr.Disk, digest v1.Hash) (string, error) {
	published, err := disk.Image(digest)
	if err != nil {
		return "", err
	}
	return pusher.Publish(ctx, published)
}

// verify reads what the decompressor left of the file, because a checksum
// covers the whole, and compares.
func (p *pass) verify() error {
	if _, err := io.Copy(io.Discard, p.raw); err != nil {
		return err
	}
	p.raw.Wait()
	for i, checksum := range p.options.Checksums {
		if err := checksum.Check(p.sums[i]); err != nil {
			return err
		}
	}
	return nil
}

// contentError gives a failure to read the image's content a reason.
func (p *pass) contentError(err error) error {
	switch {
	case errors.Is(err, stream.ErrTooLong):
		return &report.Failure{Reason: report.FormatRefused, Permanent: true, Field: fieldOf("url"),
			Message: fmt.Sprintf("the image is larger than %d bytes, the most that is accepted", p.options.MaxSize)}
	case errors.Is(err, stream.ErrLength):
		return &source.ChangedError{Why: "the image has another length than before"}
	case p.compression != "":
		return &report.Failure{Reason: report.ImageCorrupt, Permanent: true, Field: fieldOf("url"),
			Message: fmt.Sprintf("the image cannot be decompressed (%s): %v; check the file, or publish it without compression", p.compression, err)}
	}
	return err
}
