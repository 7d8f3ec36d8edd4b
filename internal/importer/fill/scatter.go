// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"sync"

	"github.com/deckhouse/virtualization/internal/directio"
	"github.com/deckhouse/virtualization/internal/image/qcow2"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// parallelUnpacks is how many compressed clusters are unpacked at once.
const parallelUnpacks = 2

// scatter is the consumer that brings the clusters of a qcow2 file to their
// places on the disk.
type scatter struct {
	disk   *disk
	image  *qcow2.Image
	writes *workers
	// unpacks are apart, so that they do not wait for the volume.
	unpacks *workers
	// zeroed is closed when the holes of the disk read as zeros.
	zeroed chan struct{}

	next func() (qcow2.Extent, bool)
	// waiting is the extent that begins behind all bytes so far.
	waiting qcow2.Extent
	more    bool
	// open are the extents that the next byte may belong to: one, or a few
	// compressed ones that share a sector.
	open []*openExtent

	packed, clusters sync.Pool
}

type openExtent struct {
	qcow2.Extent
	// packed collects the bytes of a compressed cluster.
	packed *[]byte
}

func (e *openExtent) end() int64 { return e.HostOffset + e.HostLength }

// newScatter prepares to scatter the image's file from an offset on. What lies
// before it in clusters that the pass has to see whole is read at random.
func newScatter(d *disk, structure *qcow2.Image, offset int64, ranged io.ReaderAt) (*scatter, func(), error) {
	s := &scatter{disk: d, image: structure, writes: newWorkers(parallelWrites), unpacks: newWorkers(parallelUnpacks), zeroed: make(chan struct{})}
	s.packed.New = func() any { return new([]byte) }
	s.clusters.New = func() any {
		buffer := directio.Buffer(int(structure.ClusterSize()))
		return &buffer
	}
	next, stop := iter.Pull(structure.Extents())
	s.next = next
	s.pull()
	for s.more && s.waiting.HostOffset < offset {
		e := s.begin()
		if e.end() <= offset {
			continue
		}
		if e.Kind == qcow2.Compressed {
			before := make([]byte, offset-e.HostOffset)
			if n, err := ranged.ReadAt(before, e.HostOffset); n < len(before) {
				stop()
				return nil, nil, fmt.Errorf("read the beginning of a cluster again: %w", err)
			}
			*e.packed = append(*e.packed, before...)
		}
		s.open = append(s.open, e)
	}
	return s, stop, nil
}

// pull moves on to the next extent that has bytes in the file.
func (s *scatter) pull() {
	for {
		s.waiting, s.more = s.next()
		if !s.more || s.waiting.Kind != qcow2.Zero {
			return
		}
	}
}

// begin opens the waiting extent.
func (s *scatter) begin() *openExtent {
	e := &openExtent{Extent: s.waiting}
	if e.Kind == qcow2.Compressed {
		e.packed = s.packed.Get().(*[]byte)
		*e.packed = (*e.packed)[:0]
	}
	s.pull()
	return e
}

func (s *scatter) take(ctx context.Context, p *piece) error {
	for s.more && s.waiting.HostOffset < p.end() {
		s.open = append(s.open, s.begin())
	}
	for _, e := range s.open {
		if err := s.advance(ctx, e, p); err != nil {
			return err
		}
	}
	s.open = slices.DeleteFunc(s.open, func(e *openExtent) bool { return e.end() <= p.end() })
	return nil
}

// advance gives an extent what the piece holds of it.
func (s *scatter) advance(ctx context.Context, e *openExtent, p *piece) error {
	from, to := max(e.HostOffset, p.offset), min(e.end(), p.end())
	part := p.data[from-p.offset : to-p.offset]
	if e.Kind == qcow2.Compressed {
		*e.packed = append(*e.packed, part...)
		if e.end() > p.end() {
			return nil
		}
		return s.unpacks.do(ctx, func() error { return s.unpack(e) })
	}
	if p.zero && s.disk.blank {
		return nil
	}
	p.retain()
	err := s.writes.do(ctx, func() error {
		defer p.release()
		return s.disk.write(part, e.GuestOffset+from-e.HostOffset)
	})
	if err != nil {
		p.release()
	}
	return err
}

func (s *scatter) unpack(e *openExtent) error {
	cluster := s.clusters.Get().(*[]byte)
	defer s.clusters.Put(cluster)
	defer s.packed.Put(e.packed)
	content := (*cluster)[:e.Length]
	if err := s.image.Decompress(content, *e.packed); err != nil {
		return err
	}
	return s.disk.write(content, e.GuestOffset)
}

func (s *scatter) settle(ctx context.Context, m *mark) error {
	if err := s.unpacks.wait(); err != nil {
		return err
	}
	if err := s.writes.wait(); err != nil {
		return err
	}
	select {
	case <-s.zeroed:
	case <-ctx.Done():
		return ctx.Err()
	}
	m.written = s.disk.written.list()
	if m.last && (s.more || len(s.open) > 0) {
		return &source.ChangedError{Why: "the image is shorter than when its tables were read"}
	}
	return nil
}

// span is a range of the disk.
type span struct{ offset, length int64 }

// holes are the ranges of a volume that no extent writes to.
func holes(structure *qcow2.Image, size int64) []span {
	var used []span
	for e := range structure.Extents() {
		if e.Kind != qcow2.Zero {
			used = append(used, span{e.GuestOffset, e.Length})
		}
	}
	slices.SortFunc(used, func(a, b span) int { return cmp.Compare(a.offset, b.offset) })
	var free []span
	at := int64(0)
	for _, u := range append(used, span{offset: size}) {
		if u.offset > at {
			free = append(free, span{at, u.offset - at})
		}
		at = u.offset + u.length
	}
	return free
}

// zero makes the holes read as zeros, unless the volume does already.
func (s *scatter) zero(ctx context.Context) error {
	if !s.disk.blank {
		for _, h := range holes(s.image, s.disk.Size()) {
			if err := s.disk.Zero(ctx, h.offset, h.length); err != nil {
				return err
			}
		}
	}
	close(s.zeroed)
	return nil
}
