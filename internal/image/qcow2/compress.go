// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package qcow2

import (
	"bytes"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/zstd"
)

// maxWindow is more than a cluster can need. A frame that asks for more wants
// the memory only.
const maxWindow = 8 << 20

// Decompressors are costly to make and images have many clusters.
var (
	inflaters = sync.Pool{New: func() any { return flate.NewReader(nil) }}
	zstandard = sync.Pool{New: func() any {
		// Without a reader there is nothing that can fail.
		decoder, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
		return decoder
	}}
)

// Decompress unpacks a compressed extent: src is its bytes in the file, dst as
// long as the extent's length on the disk. What is in src behind the packed
// cluster is ignored. It may be called at the same time.
func (i *Image) Decompress(dst, src []byte) error {
	unpack := inflate
	if i.header.CompressedByZstandard {
		unpack = unpackZstandard
	}
	if err := unpack(dst, src); err != nil {
		return corrupt("a compressed cluster of the qcow2 image cannot be unpacked (%v): the file is damaged", err)
	}
	return nil
}

func inflate(dst, src []byte) error {
	r := inflaters.Get().(io.ReadCloser)
	defer inflaters.Put(r)
	if err := r.(flate.Resetter).Reset(bytes.NewReader(src), nil); err != nil {
		return err
	}
	return fill(r, dst)
}

func unpackZstandard(dst, src []byte) error {
	decoder := zstandard.Get().(*zstd.Decoder)
	defer zstandard.Put(decoder)
	if err := decoder.Reset(bytes.NewReader(src)); err != nil {
		return err
	}
	return fill(decoder, dst)
}

func fill(r io.Reader, dst []byte) error {
	n, err := io.ReadFull(r, dst)
	if err != nil {
		return fmt.Errorf("%d bytes instead of %d: %w", n, len(dst), err)
	}
	return nil
}
