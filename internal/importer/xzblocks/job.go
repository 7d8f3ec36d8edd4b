// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package xzblocks

import (
	"bytes"
	"errors"
	"io"
	"slices"

	"github.com/therootcompany/xz"
)

// job unpacks one block at a time, in memory of its own that serves the next one.
type job struct {
	xz       *xz.Reader
	stored   []byte
	unpacked []byte
	// done gets one answer for each block.
	done chan error
}

// job returns one that nobody uses.
func (z *Reader) job() (*job, error) {
	if last := len(z.free) - 1; last >= 0 {
		j := z.free[last]
		z.free = z.free[:last]
		return j, nil
	}
	reader, err := xz.NewReader(nil, z.window)
	return &job{xz: reader, done: make(chan error, 1)}, err
}

// start reads what follows the header of the block, and has it unpacked.
func (j *job) start(in io.Reader, h *streamHeader, b block) error {
	j.stored = slices.Grow(j.stored[:0], int(b.stored()))[:b.stored()]
	if _, err := io.ReadFull(in, j.stored); err != nil {
		return truncated(err)
	}
	j.unpacked = slices.Grow(j.unpacked[:0], int(b.unpacked))[:b.unpacked]
	header := *h
	go func() { j.done <- j.unpack(&header, b) }()
	return nil
}

func (j *job) unpack(h *streamHeader, b block) error {
	if err := j.xz.Reset(io.MultiReader(bytes.NewReader(h[:]), bytes.NewReader(b.header),
		bytes.NewReader(j.stored), bytes.NewReader(b.alone(h)))); err != nil {
		return err
	}
	if _, err := io.ReadFull(j.xz, j.unpacked); err != nil {
		return truncated(err)
	}
	// The check behind the data is looked at on the way to the end.
	var more [1]byte
	if n, err := io.ReadFull(j.xz, more[:]); n > 0 || !errors.Is(err, io.EOF) {
		return truncated(err)
	}
	return nil
}
