// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"slices"
	"sync"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

// witness remembers what was read at random and is then, as a consumer of the
// whole file, shown that it was the same bytes.
type witness struct {
	reader io.ReaderAt

	mu    sync.Mutex
	reads []testimony
	// open are reads that the next byte belongs to.
	open []*testimony
}

// testimony is the digest of one read.
type testimony struct {
	offset, length int64
	digest         [sha256.Size]byte
	sum            hash.Hash
}

// ReadAt implements io.ReaderAt.
func (w *witness) ReadAt(p []byte, offset int64) (int, error) {
	n, err := w.reader.ReadAt(p, offset)
	if n > 0 {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.reads = append(w.reads, testimony{offset: offset, length: int64(n), digest: sha256.Sum256(p[:n])})
	}
	return n, err
}

// close ends the reading at random and returns one digest of all of it.
func (w *witness) close() string {
	slices.SortFunc(w.reads, func(a, b testimony) int {
		return cmp.Or(cmp.Compare(a.offset, b.offset), cmp.Compare(a.length, b.length))
	})
	all := sha256.New()
	for _, t := range w.reads {
		var place [16]byte
		binary.BigEndian.PutUint64(place[:], uint64(t.offset))
		binary.BigEndian.PutUint64(place[8:], uint64(t.length))
		all.Write(place[:])
		all.Write(t.digest[:])
	}
	return hex.EncodeToString(all.Sum(nil))
}

// skip forgets what lies before an offset, which an earlier pass was shown. It
// returns false if that pass was shown only a part of something.
func (w *witness) skip(offset int64) bool {
	w.reads = slices.DeleteFunc(w.reads, func(t testimony) bool { return t.offset+t.length <= offset })
	return len(w.reads) == 0 || w.reads[0].offset >= offset
}

func (w *witness) take(_ context.Context, p *piece) error {
	for len(w.reads) > 0 && w.reads[0].offset < p.end() {
		t := &w.reads[0]
		t.sum = sha256.New()
		w.open, w.reads = append(w.open, t), w.reads[1:]
	}
	for _, t := range w.open {
		from, to := max(t.offset, p.offset), min(t.offset+t.length, p.end())
		t.sum.Write(p.data[from-p.offset : to-p.offset])
		if t.offset+t.length <= p.end() && [sha256.Size]byte(t.sum.Sum(nil)) != t.digest {
			return &source.ChangedError{Why: "the image's tables are not the same as when they were read first"}
		}
	}
	w.open = slices.DeleteFunc(w.open, func(t *testimony) bool { return t.offset+t.length <= p.end() })
	return nil
}

func (w *witness) settle(_ context.Context, m *mark) error {
	if m.last && len(w.reads)+len(w.open) > 0 {
		return &source.ChangedError{Why: "the image is shorter than when its tables were read"}
	}
	return nil
}
