// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package image

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// content writes the entries of a layer; it is called once to learn the digest
// and once more for the archive, and writes the same bytes each time.
type content func(*tar.Writer) error

// layer is a v1.Layer that is stored uncompressed: the nodes unpack it at once,
// on the same machine, so compressing it would only cost time.
type layer struct {
	write  content
	digest v1.Hash
	size   int64
}

var _ v1.Layer = (*layer)(nil)

func newLayer(write content) (*layer, error) {
	l := &layer{write: write}
	hash := sha256.New()
	count := &countingWriter{writer: hash}
	if err := l.writeTo(count); err != nil {
		return nil, err
	}
	l.digest = v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(hash.Sum(nil))}
	l.size = count.written
	return l, nil
}

func (l *layer) writeTo(w io.Writer) error {
	archive := tar.NewWriter(w)
	if err := l.write(archive); err != nil {
		return err
	}
	return archive.Close()
}

// Digest implements v1.Layer.
func (l *layer) Digest() (v1.Hash, error) { return l.digest, nil }

// DiffID implements v1.Layer.
func (l *layer) DiffID() (v1.Hash, error) { return l.digest, nil }

// Size implements v1.Layer.
func (l *layer) Size() (int64, error) { return l.size, nil }

// MediaType implements v1.Layer.
func (l *layer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }

// Compressed implements v1.Layer.
func (l *layer) Compressed() (io.ReadCloser, error) { return l.Uncompressed() }

// Uncompressed implements v1.Layer.
func (l *layer) Uncompressed() (io.ReadCloser, error) {
	reader, writer := io.Pipe()
	go func() { writer.CloseWithError(l.writeTo(writer)) }()
	return reader, nil
}

// writeEntries is the content of a layer made of entries.
func writeEntries(entries []entry) content {
	return func(archive *tar.Writer) error {
		for _, e := range entries {
			if err := e.write(archive); err != nil {
				return fmt.Errorf("writing %s: %w", e.header.Name, err)
			}
		}
		return nil
	}
}

func (e entry) write(archive *tar.Writer) error {
	header := e.header
	header.ModTime = epoch
	header.Format = tar.FormatPAX
	if err := archive.WriteHeader(&header); err != nil {
		return err
	}
	if e.open == nil {
		return nil
	}
	source, err := e.open()
	if err != nil {
		return err
	}
	defer source.Close()
	_, err = io.Copy(archive, source)
	return err
}

type countingWriter struct {
	writer  io.Writer
	written int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.writer.Write(p)
	c.written += int64(n)
	return n, err
}
