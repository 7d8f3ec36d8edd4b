// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/deckhouse/virtualization/internal/directio"
	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/source"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

// grainState is how far a stream of grains has come.
type grainState struct {
	// At is where in the file the next mark is, or the one that was not complete.
	At int64 `json:"at"`
	// Next is the byte of the disk behind the last grain.
	Next int64 `json:"next"`
	// Last is where in the file the last grain was.
	Last int64 `json:"last,omitempty"`
	// Ended is true behind the mark of the end.
	Ended bool `json:"ended,omitempty"`
}

// grains is the consumer that unpacks a streamOptimized VMDK as it arrives. It insists
// on grains in the order of the disk, as they are by the purpose of the format: so it
// need not remember which ones it has seen.
type grains struct {
	disk   *disk
	stream *image.GrainStream
	state  grainState

	// content are the bytes of the mark at state.At so far; mark is nil before
	// there are enough of them to read it.
	content *[]byte
	mark    *image.GrainMark
	// run are the latest grains, neighbours on the disk, which nobody unpacks yet.
	run []grain

	unpacks          *workers
	packed, unpacked sync.Pool
}

// runSize is how much of the disk is written at once: a grain by itself would cost the
// volume as much as all of this.
const runSize = 1 << 20

// grain is one with all its bytes.
type grain struct {
	image.GrainMark
	content *[]byte
}

func (g grain) end() int64 { return g.Offset + g.Length }

func newGrains(d *disk, stream *image.GrainStream) *grains {
	g := &grains{disk: d, stream: stream, state: grainState{At: stream.Start}, unpacks: newWorkers(parallelWrites)}
	g.packed.New = func() any { return new([]byte) }
	g.unpacked.New = func() any {
		buffer := directio.Buffer(int(max(stream.GrainSize, runSize)))
		return &buffer
	}
	g.content = g.packed.Get().(*[]byte)
	return g
}

// resume goes on from a state, where the pipeline begins at an offset of the file.
// What was read of a mark before is read again.
func (g *grains) resume(state grainState, offset int64, ranged source.ReaderAt) error {
	missing := max(offset-state.At, 0)
	if state.At < g.stream.Start || state.Next < 0 || missing > 2*g.stream.GrainSize {
		return &source.ChangedError{Why: "the grains cannot be read from there on"}
	}
	g.state = state
	if state.Ended {
		return nil
	}
	before := make([]byte, missing)
	if n, err := ranged.ReadAt(before, state.At); n < len(before) {
		return fmt.Errorf("read the beginning of a grain again: %w", err)
	}
	return g.collect(context.Background(), before)
}

func (g *grains) take(ctx context.Context, p *piece) error {
	at := g.state.At + int64(len(*g.content))
	if at >= p.end() {
		return nil // Tables.
	}
	return g.collect(ctx, p.data[max(at-p.offset, 0):])
}

// collect gets all bytes from state.At on, apart from those in content.
func (g *grains) collect(ctx context.Context, data []byte) error {
	for len(data) > 0 {
		if g.state.Ended {
			if !volume.IsZero(data) {
				return image.ErrNoGrainStream
			}
			return nil
		}
		want := int64(image.MarkSize)
		if g.mark != nil {
			want = g.mark.Size
		}
		part := data[:min(int64(len(data)), want-int64(len(*g.content)))]
		*g.content, data = append(*g.content, part...), data[len(part):]
		if int64(len(*g.content)) < want {
			return nil
		}
		skip, err := g.step(ctx)
		if err != nil {
			return err
		}
		data = data[min(skip, int64(len(data))):]
	}
	return nil
}

// step does what can be done with the bytes in content, and returns how many of those
// that follow are of no interest.
func (g *grains) step(ctx context.Context) (skip int64, err error) {
	if g.mark == nil {
		m, err := g.stream.Mark(g.state.At, *g.content)
		if err != nil {
			return 0, err
		}
		if m.Length == 0 {
			*g.content, g.state.Ended = (*g.content)[:0], m.End
			g.state.At += m.Size
			return m.Size - image.MarkSize, nil
		}
		if g.mark = &m; m.Size > image.MarkSize {
			return 0, nil
		}
	}
	return 0, g.add(ctx)
}

// add moves the grain in content to the run, or to the next one if it does not fit.
func (g *grains) add(ctx context.Context) error {
	next := grain{*g.mark, g.content}
	if next.Offset < g.state.Next {
		return image.ErrNoGrainStream
	}
	if len(g.run) > 0 && (next.Offset > g.state.Next || next.end()-g.run[0].Offset > runSize) {
		if err := g.flush(ctx); err != nil {
			return err
		}
	}
	if err := g.skip(ctx, next.Offset); err != nil {
		return err
	}
	g.run = append(g.run, next)
	g.state = grainState{At: g.state.At + next.Size, Next: next.end(), Last: g.state.At}
	g.content, g.mark = g.packed.Get().(*[]byte), nil
	*g.content = (*g.content)[:0]
	return nil
}

// flush gives the run away to be unpacked and written.
func (g *grains) flush(ctx context.Context) error {
	run := g.run
	if g.run = nil; len(run) == 0 {
		return nil
	}
	return g.unpacks.do(ctx, func() error {
		buffer := g.unpacked.Get().(*[]byte)
		defer g.unpacked.Put(buffer)
		begin := run[0].Offset
		for _, one := range run {
			err := g.stream.Unpack((*buffer)[one.Offset-begin:one.end()-begin], *one.content, one.GrainMark)
			g.packed.Put(one.content)
			if err != nil {
				return err
			}
		}
		return g.disk.write((*buffer)[:run[len(run)-1].end()-begin], begin)
	})
}

// skip makes the disk read as zeros up to the next grain.
func (g *grains) skip(ctx context.Context, to int64) error {
	from := g.state.Next
	if g.disk.blank || from == to {
		return nil
	}
	return g.unpacks.do(ctx, func() error { return g.disk.Zero(ctx, from, to-from) })
}

func (g *grains) settle(ctx context.Context, m *mark) error {
	if err := errors.Join(g.flush(ctx), g.unpacks.wait()); err != nil {
		return err
	}
	state := g.state
	m.written, m.grains = g.disk.written.list(), &state
	if !m.last {
		return nil
	}
	if len(*g.content) > 0 || !g.stream.Complete(state.Last) {
		return image.ErrNoGrainStream
	}
	if g.disk.blank {
		return nil
	}
	return g.disk.Zero(ctx, state.Next, g.disk.Size()-state.Next)
}

// unpackGrains fills the disk from an image that is its grains in order. One that turns
// out not to be is begun anew in another way.
func (p *pass) unpackGrains(ctx context.Context) error {
	g := newGrains(p.disk, p.grainStream)
	if p.sink.Grains != nil {
		if err := g.resume(*p.sink.Grains, p.start, p.ranged); err != nil {
			return err
		}
	}
	_, err := p.pipeline(g).run(ctx, p.content, p.start)
	if errors.Is(err, image.ErrNoGrainStream) {
		p.byTables = true
		return &source.ChangedError{Why: err.Error()}
	}
	if err != nil {
		return err
	}
	return p.verify()
}

// openGrains looks whether the image can be unpacked as it arrives.
func (p *pass) openGrains() (bool, error) {
	if p.sink.Image.Format != image.FormatVMDK || p.byTables {
		return false, nil
	}
	stream, err := image.OpenGrainStream(p.ranged, p.ranged.Size())
	if errors.Is(err, image.ErrNoGrainStream) {
		return false, nil
	} else if err != nil {
		return false, err
	}
	p.grainStream, p.sink.Image = stream, stream.Info
	return true, p.fits(stream.Info.VirtualSize)
}

// resumeGrains looks at the image again.
func (p *pass) resumeGrains() error {
	before := p.sink.Image
	if ordered, err := p.openGrains(); err != nil {
		return err
	} else if !ordered || p.sink.Image != before {
		return &source.ChangedError{Why: "the image is not the same as before"}
	}
	return nil
}
