// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"sync"

	"github.com/deckhouse/virtualization/internal/directio"
	"github.com/deckhouse/virtualization/internal/importer/volume"
)

const (
	// sampleSize is how much of a write is remembered, sampleCount how many writes.
	sampleSize  = 4 << 10
	sampleCount = 4
)

// sample is a part of the disk that was written and is not zero.
type sample struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	Digest string `json:"digest"`
}

// samples are the latest writes. A checkpoint carries them as a proof: going on
// from it on a volume that was made anew meanwhile would leave holes that nobody
// notices. The latest write before a checkpoint is there only if all are.
type samples struct {
	mu     sync.Mutex
	latest []sample
}

// add remembers a part of what was written.
func (s *samples) add(p []byte, offset int64) {
	for len(p) > sampleSize && volume.IsZero(p[:sampleSize]) {
		p, offset = p[sampleSize:], offset+sampleSize
	}
	p = p[:min(len(p), sampleSize)]
	if volume.IsZero(p) {
		return
	}
	taken := sample{Offset: offset, Length: int64(len(p)), Digest: sampleDigest(p)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.latest) == sampleCount {
		s.latest = s.latest[1:]
	}
	s.latest = append(s.latest, taken)
}

// list is what is remembered now.
func (s *samples) list() []sample {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]sample(nil), s.latest...)
}

// sampleDigest is cut to what no accident can produce: checkpoints are small.
func sampleDigest(p []byte) string {
	sum := sha256.Sum256(p)
	return hex.EncodeToString(sum[:8])
}

// holds tells whether the disk has all of the samples. If there are none nothing
// was written yet, and the disk has to be blank.
func (d *disk) holds(ctx context.Context, taken []sample) (bool, error) {
	if len(taken) == 0 && d.blank {
		return d.Blank(ctx)
	}
	for _, s := range taken {
		if s.Length <= 0 || s.Length > sampleSize || s.Offset < 0 || s.Offset > d.Size()-s.Length {
			return false, nil
		}
		p := directio.Buffer(int(s.Length))
		if _, err := d.ReadAt(p, s.Offset); err != nil {
			return false, errors.Join(errors.New("look at what was written before"), err)
		}
		if sampleDigest(p) != s.Digest {
			return false, nil
		}
	}
	return len(taken) > 0, nil
}
