// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package stream

import (
	"bytes"
	"fmt"
	"io"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/deckhouse/virtualization/internal/importer/xzblocks"
)

// MagicSize is how many of a stream's first bytes Compression looks at.
const MagicSize = 6

// maxWindow bounds the memory that a compressed stream can make its reader
// keep: what xz asks for at its highest level, and zstd without --ultra or
// --long. It is why xz is read by a library that takes such a bound.
const maxWindow = 64 << 20

// Compression names how a stream that begins with head is compressed: gzip,
// xz, zstd, or empty if it is not.
func Compression(head []byte) string {
	for _, known := range []struct{ name, magic string }{
		{"gzip", "\x1f\x8b"},
		{"xz", "\xfd7zXZ\x00"},
		{"zstd", "\x28\xb5\x2f\xfd"},
	} {
		if bytes.HasPrefix(head, []byte(known.magic)) {
			return known.name
		}
	}
	return ""
}

// Decompress returns the content of a compressed stream. The caller has to
// bound how much of it is read, and to close it.
func Decompress(compression string, r io.Reader) (io.ReadCloser, error) {
	switch compression {
	case "gzip":
		return gzip.NewReader(r)
	case "xz":
		return xzblocks.NewReader(r, maxWindow)
	case "zstd":
		// One goroutine: the stages around it need the other processors.
		reader, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWindow))
		if err != nil {
			return nil, err
		}
		return reader.IOReadCloser(), nil
	}
	return nil, fmt.Errorf("unknown compression %q", compression)
}
