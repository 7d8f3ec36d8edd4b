// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package window

import (
	"crypto/sha256"
	"encoding/hex"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

// maxSeen bounds the blocks that a checkpoint names one by one. Formats have their
// tables in few places, and the stream comes after a reader that is far ahead.
const maxSeen = 12

// Seen is what a window has shown to a converter. The next one, which may have been
// started after a crash, has to find the same in the same file, or else what was
// converted before does not belong to it.
type Seen struct {
	// Blocks is how many the stream has given, Digest that of their digests.
	Blocks int64  `json:"blocks"`
	Digest string `json:"digest"`
	// Requested are the digests of blocks that were read at random before the stream
	// came to them.
	Requested map[int64]string `json:"requested,omitempty"`
}

// Testify returns where a stream for a reader that is now here would begin, and what
// was seen up to now; nil if that is too much to be remembered, or if the stream did
// not see the beginning.
func (w *Window) Testify() (offset int64, testified *Seen) {
	w.mu.Lock()
	defer w.mu.Unlock()
	offset = max(w.next-readAhead, 0) * BlockSize
	if w.first > 0 || len(w.requested) > maxSeen {
		return offset, nil
	}
	testified = &Seen{Blocks: w.next, Digest: digestOf(w.streamed), Requested: map[int64]string{}}
	for index, sum := range w.requested {
		testified.Requested[index] = hex.EncodeToString(sum[:])
	}
	return offset, testified
}

func digestOf(digests []digest) string {
	all := sha256.New()
	for _, d := range digests {
		all.Write(d[:])
	}
	return hex.EncodeToString(all.Sum(nil))
}

// Expect makes the window fail when the file is not what was seen before.
func (w *Window) Expect(before *Seen) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for index, text := range before.Requested {
		var sum digest
		if decoded, err := hex.DecodeString(text); err != nil || copy(sum[:], decoded) != len(sum) {
			return &source.ChangedError{Why: "the checkpoint cannot be read"}
		}
		// The inspection has read some of them already.
		if known, twice := w.requested[index]; twice {
			if err := compare(sum, known); err != nil {
				return err
			}
		}
		w.requested[index] = sum
	}
	w.before = before
	return nil
}

// continues tells whether what the stream gave so far is what it gave before.
func (w *Window) continues() bool {
	return w.before == nil || int64(len(w.streamed)) != w.before.Blocks || digestOf(w.streamed) == w.before.Digest
}
