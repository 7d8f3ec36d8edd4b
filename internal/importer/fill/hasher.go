// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package fill

import (
	"context"
	"encoding"
	"fmt"
	"hash"

	"github.com/deckhouse/virtualization/internal/image"
)

// sums are the hashes that the checksums need, by algorithm.
type sums map[string]hash.Hash

func newSums(checksums []image.Checksum) sums {
	s := sums{}
	for _, c := range checksums {
		if s[c.Algorithm] == nil {
			s[c.Algorithm] = c.NewHash()
		}
	}
	return s
}

// restore sets the hashes to the states of a checkpoint.
func (s sums) restore(states map[string][]byte) error {
	for name, sum := range s {
		if err := sum.(encoding.BinaryUnmarshaler).UnmarshalBinary(states[name]); err != nil {
			return fmt.Errorf("restore the %s hash: %w", name, err)
		}
	}
	return nil
}

func (s sums) list() []hash.Hash {
	var list []hash.Hash
	for _, sum := range s {
		list = append(list, sum)
	}
	return list
}

func (s sums) check(checksums []image.Checksum) error {
	for _, c := range checksums {
		if err := c.Check(s[c.Algorithm]); err != nil {
			return err
		}
	}
	return nil
}

// hasher is the consumer that computes one hash of the file.
type hasher struct {
	name string
	sum  hash.Hash
}

func (h *hasher) take(_ context.Context, p *piece) error {
	h.sum.Write(p.data)
	return nil
}

func (h *hasher) settle(_ context.Context, m *mark) error {
	state, err := h.sum.(encoding.BinaryMarshaler).MarshalBinary()
	if err != nil {
		return fmt.Errorf("keep the %s hash: %w", h.name, err)
	}
	m.remember(h.name, state)
	return nil
}
