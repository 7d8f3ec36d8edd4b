// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"archive/tar"
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"path"
	"slices"
	"strings"
	"sync/atomic"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/stream"
)

const (
	diskDir = "disk"
	// Whiteouts are files of an upper layer that take away those of lower ones.
	whiteoutPrefix = ".wh."
	whiteoutOpaque = ".wh..wh..opq"

	// maxEntries and maxSkipped bound what is read of a layer to find a disk.
	maxEntries = 100_000
	maxSkipped = 64 << 30
)

// diskExtensions are how the names of disks end that lie outside of disk/.
var diskExtensions = []string{".img", ".iso", ".qcow2", ".raw", ".vdi", ".vhd", ".vhdx", ".vmdk"}

// counter counts bytes of several streams.
type counter struct{ atomic.Int64 }

// found is a disk's place in an image.
type found struct {
	layer int
	path  string
}

// open looks for the disk from the uppermost layer down and returns it as soon
// as it is seen, so that an ordinary image is read only once.
func (p *pull) open(ctx context.Context) (Stream, error) {
	hidden := map[string]bool{}
	var loose []found
	for i, layer := range slices.Backward(p.manifest.Layers) {
		opened, err := p.openLayer(ctx, layer)
		if err != nil {
			return nil, err
		}
		inDisk := func(name string) bool { return path.Dir(name) == diskDir && !isHidden(hidden, name) }
		header, names, err := opened.seek(inDisk)
		if err != nil {
			opened.Close()
			return nil, err
		}
		if header != nil {
			return opened, nil
		}
		opened.Close()
		for _, name := range names {
			if isLoose(name) && !isHidden(hidden, name) {
				loose = append(loose, found{i, name})
			}
		}
		for _, name := range names {
			if base := path.Base(name); strings.HasPrefix(base, whiteoutPrefix) {
				hidden[name] = true
			}
		}
	}
	return p.openLoose(ctx, loose)
}

// isLoose tells whether a file outside of disk/ is named like a disk.
func isLoose(name string) bool {
	return !strings.HasPrefix(path.Base(name), ".") && slices.Contains(diskExtensions, strings.ToLower(path.Ext(name)))
}

// openLoose goes back to the only file that can be a disk.
func (p *pull) openLoose(ctx context.Context, loose []found) (Stream, error) {
	switch len(loose) {
	case 0:
		return nil, p.source.unusable("holds no file in /disk, and none elsewhere that is named like a disk")
	case 1:
	default:
		return nil, p.source.unusable("holds no file in /disk and several that are named like disks (%s, %s)", loose[0].path, loose[1].path)
	}
	opened, err := p.openLayer(ctx, p.manifest.Layers[loose[0].layer])
	if err != nil {
		return nil, err
	}
	header, _, err := opened.seek(func(name string) bool { return name == loose[0].path })
	if err == nil && header == nil {
		err = &ChangedError{Why: "a layer of the image has another content than before"}
	}
	if err != nil {
		opened.Close()
		return nil, err
	}
	return opened, nil
}

// isHidden tells whether whiteouts of upper layers take a file away: its own,
// one of a directory above it, or one of everything in such a directory.
func isHidden(whiteouts map[string]bool, name string) bool {
	for at := name; at != "." && at != "/"; at = path.Dir(at) {
		dir := path.Dir(at)
		if whiteouts[path.Join(dir, whiteoutPrefix+path.Base(at))] || whiteouts[path.Join(dir, whiteoutOpaque)] {
			return true
		}
	}
	return false
}

// layerStream reads one layer, and after seek a disk in it.
type layerStream struct {
	pull   *pull
	layer  v1.Descriptor
	blob   *rememberingBlob
	raw    *stream.HashingReader
	sum    hash.Hash
	plain  io.ReadCloser
	tar    *tar.Reader
	cancel context.CancelFunc

	wanted func(string) bool
	size   int64
	left   int64
	err    error
}

func (p *pull) openLayer(ctx context.Context, layer v1.Descriptor) (*layerStream, error) {
	ctx, cancel := context.WithCancel(ctx)
	opened, err := p.source.blob(layer.Digest, p.authorized).Open(ctx)
	if err != nil {
		cancel()
		return nil, p.source.renamed(err)
	}
	s := &layerStream{pull: p, layer: layer, sum: sha256.New(), cancel: cancel}
	s.blob = &rememberingBlob{Stream: opened, count: &p.received}
	s.raw = stream.NewHashingReader(s.blob, s.sum)
	content := io.Reader(bufio.NewReaderSize(s.raw, 64<<10))
	magic, err := content.(*bufio.Reader).Peek(stream.MagicSize)
	if err != nil && !errors.Is(err, io.EOF) {
		s.Close()
		return nil, s.cause(err)
	}
	if compression := stream.Compression(magic); compression != "" {
		plain, err := stream.Decompress(compression, content)
		if err != nil {
			s.Close()
			return nil, s.cause(err)
		}
		s.plain, content = plain, plain
	}
	s.tar = tar.NewReader(content)
	return s, nil
}

// seek reads on to the first regular file that is wanted. If there is none it
// has read the layer to its end, and returns the names of all that is in it.
func (s *layerStream) seek(wanted func(string) bool) (*tar.Header, []string, error) {
	s.wanted = wanted
	var names []string
	skipped := int64(0)
	for range maxEntries {
		header, err := s.tar.Next()
		if errors.Is(err, io.EOF) {
			return nil, names, s.drain()
		} else if err != nil {
			return nil, nil, s.cause(err)
		}
		name := cleanName(header.Name)
		if s.isDisk(name, header) {
			if header.Typeflag != tar.TypeReg {
				return nil, nil, s.pull.source.unusable("has /%s as a link or a special file", name)
			}
			s.size, s.left = header.Size, header.Size
			return header, nil, nil
		}
		if header.Size > maxSkipped-skipped {
			return nil, nil, s.pull.source.unusable("holds more than %d bytes besides a disk", int64(maxSkipped))
		}
		skipped += header.Size
		if header.Typeflag != tar.TypeDir {
			names = append(names, name)
		}
	}
	return nil, nil, s.pull.source.unusable("has a layer of more than %d files", maxEntries)
}

func (s *layerStream) isDisk(name string, header *tar.Header) bool {
	return header.Typeflag != tar.TypeDir && !strings.HasPrefix(path.Base(name), ".") && s.wanted(name)
}

func cleanName(name string) string { return strings.TrimPrefix(path.Clean("/"+name), "/") }

// Read implements io.Reader. It ends only when the rest of the layer was read,
// too: a second disk would be a riddle, and the digest covers everything.
func (s *layerStream) Read(p []byte) (int, error) {
	if s.err != nil {
		return 0, s.err
	}
	if s.left == 0 {
		s.err = s.finish()
		return 0, s.err
	}
	n, err := s.tar.Read(p)
	s.left -= int64(n)
	if err != nil && s.left > 0 {
		s.err = s.cause(err)
	}
	return n, s.err
}

// finish returns io.EOF if all is well.
func (s *layerStream) finish() error {
	header, _, err := s.seek(s.wanted)
	switch {
	case err != nil:
		return err
	case header != nil:
		return s.pull.source.unusable("holds more than one file in /disk (%s)", path.Base(header.Name))
	}
	return io.EOF
}

// drain reads what is behind the archive and compares the layer's digest.
func (s *layerStream) drain() error {
	if s.plain != nil {
		if _, err := io.Copy(io.Discard, stream.AtMost(s.plain, maxSkipped)); err != nil {
			return s.cause(err)
		}
	}
	if _, err := io.Copy(io.Discard, s.raw); err != nil {
		return s.cause(err)
	}
	s.raw.Wait()
	if got := hex.EncodeToString(s.sum.Sum(nil)); got != s.layer.Digest.Hex {
		return otherBytes("layer", "sha256:"+got, s.layer.Digest.String())
	}
	return nil
}

// cause prefers what the download failed with over what was made of it.
func (s *layerStream) cause(err error) error {
	if broken := s.blob.failure(); broken != nil {
		return s.pull.source.renamed(broken)
	}
	if _, typed := asError(err); typed || errors.Is(err, context.Canceled) {
		return err
	}
	return &Error{Reason: report.ImageCorrupt, Permanent: true, Field: "image",
		Message: fmt.Sprintf("a layer of the container image cannot be read: %v", err)}
}

// Size implements Stream.
func (s *layerStream) Size() int64 { return s.size }

// Received implements Stream.
func (s *layerStream) Received() int64 { return s.pull.received.Load() }

// Validator implements Stream: a compressed layer cannot be continued, so there
// is nothing to prove.
func (s *layerStream) Validator() string { return "" }

// Close implements io.Closer. The reading ahead belongs to one goroutine, whose
// end is waited for.
func (s *layerStream) Close() error {
	if s.err == nil {
		s.err = io.ErrClosedPipe
	}
	s.raw.Close()
	s.cancel()
	s.raw.Wait()
	if s.plain != nil {
		s.plain.Close()
	}
	return s.blob.Close()
}

// rememberingBlob keeps what the download ended with, and counts.
type rememberingBlob struct {
	Stream
	count  *counter
	broken atomic.Pointer[error]
}

// Read implements io.Reader.
func (b *rememberingBlob) Read(p []byte) (int, error) {
	n, err := b.Stream.Read(p)
	b.count.Add(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		b.broken.Store(&err)
	}
	return n, err
}

func (b *rememberingBlob) failure() error {
	if broken := b.broken.Load(); broken != nil {
		return *broken
	}
	return nil
}
