// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"slices"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/image/qcow2"
	"github.com/deckhouse/virtualization/internal/importer/fill/window"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

// Ways to fill the volume.
const (
	methodPlain   = "plain"
	methodScatter = "scatter"
	methodGrains  = "grains"
	methodConvert = "convert"
	methodStage   = "stage"
)

// dynamicVHD is what a VHD begins with that is not simply a disk with a footer.
const dynamicVHD = "conectix"

// sink is what the volume's side remembers in a checkpoint.
type sink struct {
	Method string `json:"method"`
	// Blank says that the volume reads as zeros wherever nothing was written.
	Blank bool `json:"blank"`
	// Tables is the digest of a qcow2 image's tables.
	Tables string `json:"tables,omitempty"`
	// Written is what the volume has to hold for the checkpoint to be true.
	Written []sample `json:"written,omitempty"`
	// Grains is how far an image has come that is unpacked as it arrives.
	Grains *grainState `json:"grains,omitempty"`
	Image  image.Info  `json:"image"`
	// Converted is how much of the disk a converter has finished, Seen what it was
	// shown meanwhile.
	Converted int64        `json:"converted,omitempty"`
	Seen      *window.Seen `json:"seen,omitempty"`
}

// pass goes through the image's file once.
type pass struct {
	*filling
	disk *disk
	sink sink
	// stop ends the source's stream.
	stop context.CancelFunc

	stream *watched
	// start is the offset that the stream begins at.
	start int64
	// content is the image's bytes from start on, head the first of all.
	content     io.Reader
	head        []byte
	compression string
	sums        sums
	// raw are the bytes of a compressed file.
	raw *stream.HashingReader

	ranged      source.ReaderAt
	structure   *qcow2.Image
	witness     *witness
	grainStream *image.GrainStream
	window      *window.Window
}

// close interrupts what still reads and counts what was received.
func (p *pass) close() {
	if p.raw != nil {
		p.raw.Close()
	}
	p.stop()
	if p.raw != nil {
		p.raw.Wait()
	}
	if p.stream != nil {
		p.stream.Close()
		p.received += p.stream.Received()
	}
	if p.ranged != nil {
		p.ranged.Close()
		p.received += p.ranged.Received()
	}
}

// cause prefers what the source failed with over what the stages behind it made
// of that.
func (p *pass) cause(err error) error {
	if p.stream != nil {
		if cause := p.stream.failure(); cause != nil && !errors.Is(cause, context.Canceled) {
			return cause
		}
	}
	return err
}

// begin opens the source, finds out what the image is and how to fill the volume
// from it.
func (p *pass) begin(ctx context.Context) error {
	p.sums = newSums(p.Checksums)
	opened, err := p.Source.Open(ctx)
	if err != nil {
		return err
	}
	p.stream = watch(opened, p.Progress)
	p.Progress.begin(report.PhaseTransferring, 0, opened.Size())
	if err := p.openContent(); err != nil {
		return err
	}
	p.head = make([]byte, image.HeadSize)
	n, err := stream.Fill(p.content, p.head)
	if err != nil && !errors.Is(err, io.EOF) {
		return p.contentError(err)
	}
	p.head = p.head[:n]
	p.content = io.MultiReader(bytes.NewReader(p.head), p.content)
	if p.sink.Image, err = image.Inspect(p.head, p.size()); err != nil {
		return err
	}
	if err := p.fitsSoFar(); err != nil {
		return err
	}
	if err := p.choose(ctx); err != nil || p.sink.Method == methodStage {
		return err
	}
	p.disk.blank, err = p.disk.Blank(ctx)
	p.sink.Blank = p.disk.blank
	return err
}

// openContent looks whether the source's bytes are compressed.
func (p *pass) openContent() error {
	magic := make([]byte, stream.MagicSize)
	n, err := stream.Fill(p.stream, magic)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	whole := io.MultiReader(bytes.NewReader(magic[:n]), p.stream)
	p.compression = stream.Compression(magic[:n])
	if p.compression == "" {
		p.content = whole
		if size := p.size(); size != source.UnknownSize {
			p.content = stream.Exactly(whole, size)
		}
		return nil
	}
	p.raw = stream.NewHashingReader(whole, p.sums.list()...)
	plain, err := stream.Decompress(p.compression, p.raw)
	if err != nil {
		return p.contentError(err)
	}
	p.content = plain
	return nil
}

// size of the image, if it is known.
func (p *pass) size() int64 {
	if p.compression != "" {
		return source.UnknownSize
	}
	return p.stream.Size()
}

// choose decides how the volume is filled.
func (p *pass) choose(ctx context.Context) error {
	switch format := p.sink.Image.Format; {
	case format == image.FormatRaw, format == image.FormatISO, format == image.FormatVPC && !bytes.HasPrefix(p.head, []byte(dynamicVHD)):
		p.sink.Method = methodPlain
		return nil
	}
	p.sink.Method = methodStage
	ranged, ok := p.Source.(source.Ranged)
	if !ok || p.compression != "" {
		return nil
	}
	if err := p.openRanged(ctx, ranged, p.stream.Validator()); err != nil {
		if errors.Is(err, source.ErrNotRanged) {
			return nil
		}
		return err
	}
	if p.sink.Image.Format == image.FormatQCOW2 {
		err := p.readTables()
		if err == nil {
			p.sink.Method = methodScatter
			return nil
		} else if !errors.Is(err, qcow2.ErrUnsupported) {
			return err
		}
		p.Logger.Info("leaving the image to qemu-img", "cause", err)
	}
	if ordered, err := p.openGrains(); ordered || err != nil {
		p.sink.Method = methodGrains
		return err
	}
	p.sink.Method = methodConvert
	return p.inspectWhole()
}

// inspectWhole looks at all that a converter would follow. It reads through the
// window, so that the converter gets the very bytes.
func (p *pass) inspectWhole() error {
	p.window = window.New(p.ranged, p.ranged.Size(), p.start, p.head, len(p.sums) > 0)
	info, err := image.InspectAt(p.window, p.ranged.Size())
	if err != nil {
		return err
	}
	p.sink.Image = info
	return p.fits(info.VirtualSize)
}

// openRanged opens the image for reading at random, if it is still the same.
func (p *pass) openRanged(ctx context.Context, from source.Ranged, validator string) error {
	opened, err := from.OpenRanged(ctx)
	if err != nil {
		return err
	}
	p.ranged = opened
	if opened.Validator() != validator || opened.Size() != p.stream.Size() {
		return &source.ChangedError{Why: "the image has changed since it was opened"}
	}
	return nil
}

func (p *pass) readTables() error {
	p.witness = &witness{reader: p.ranged}
	structure, err := qcow2.Open(p.witness, p.ranged.Size())
	if err != nil {
		return err
	}
	p.structure = structure
	p.sink.Tables = p.witness.close()
	return p.fits(structure.VirtualSize())
}

// resume opens the source where a checkpoint is.
func (p *pass) resume(ctx context.Context, c *report.Checkpoint) error {
	cannot := func(why string) error { return &source.ChangedError{Why: why} }
	from, resumable := p.Source.(source.Resumable)
	switch {
	case json.Unmarshal([]byte(c.Sink), &p.sink) != nil || !slices.Contains([]string{methodPlain, methodScatter, methodGrains, methodConvert}, p.sink.Method):
		return cannot("the checkpoint is of another version of the importer")
	case !resumable || c.Validator == "":
		return cannot("the source cannot be read from the middle on")
	}
	p.disk.blank, p.start = p.sink.Blank, c.Offset
	p.sums = newSums(p.Checksums)
	if err := p.restore(c); err != nil {
		return cannot(err.Error())
	}
	if there, err := p.disk.holds(ctx, p.sink.Written); err != nil {
		return err
	} else if !there {
		return cannot("the volume is not the one of the checkpoint")
	}
	opened, err := from.OpenAt(ctx, p.start, c.Validator)
	if err != nil {
		return err
	}
	p.stream = watch(opened, p.Progress)
	p.Progress.begin(report.PhaseTransferring, p.start, opened.Size())
	p.content = p.stream
	if size := opened.Size(); size != source.UnknownSize {
		p.content = stream.Exactly(p.stream, size-p.start)
	}
	return p.resumeRanged(ctx, c)
}

// restore brings the hashes to where the stream begins.
func (p *pass) restore(c *report.Checkpoint) error {
	if p.sink.Method == methodConvert {
		return p.restoreConversion()
	}
	if c.Offset <= 0 || c.Offset%p.chunk != 0 || (p.sink.Method == methodGrains) != (p.sink.Grains != nil) {
		return errors.New("the source cannot be read from there on")
	}
	return p.sums.restore(c.Hashes)
}

// resumeRanged opens what is read at random again.
func (p *pass) resumeRanged(ctx context.Context, c *report.Checkpoint) error {
	if p.sink.Method == methodPlain {
		return nil
	}
	ranged, ok := p.Source.(source.Ranged)
	if !ok {
		return &source.ChangedError{Why: "the source cannot be read at random any more"}
	}
	if err := p.openRanged(ctx, ranged, c.Validator); err != nil {
		return err
	}
	switch p.sink.Method {
	case methodConvert:
		return p.resumeConversion()
	case methodGrains:
		return p.resumeGrains()
	}
	before := p.sink.Tables
	if err := p.readTables(); err != nil {
		return err
	}
	if p.sink.Tables != before || !p.witness.skip(c.Offset) {
		return &source.ChangedError{Why: "the image's tables are not the same as before"}
	}
	return nil
}

// run fills the volume by the method that was chosen.
func (p *pass) run(ctx context.Context) (*report.Result, error) {
	if p.sink.Method != methodStage {
		p.stream.recorded()
	}
	var err error
	switch p.sink.Method {
	case methodPlain:
		err = p.plain(ctx)
	case methodScatter:
		err = p.scatter(ctx)
	case methodGrains:
		err = p.unpackGrains(ctx)
	case methodConvert:
		err = p.convert(ctx)
	default:
		return p.stage(ctx, p.handOver(), nil)
	}
	if err == nil {
		err = p.disk.Sync()
	}
	if err != nil {
		return nil, p.contentError(p.cause(err))
	}
	return &report.Result{
		Format:           string(p.sink.Image.Format),
		VirtualSizeBytes: p.sink.Image.VirtualSize,
		StoredSizeBytes:  max(p.stream.Size(), 0),
		CDROM:            p.sink.Image.CDROM,
	}, nil
}
