// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"encoding/binary"
	"errors"
	"io"

	"github.com/klauspost/compress/zstd"

	"github.com/deckhouse/virtualization/internal/image"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// A layer begins with the length of the disk in it. What a compressed file says
// about its content's length saves reading it twice: once to measure it and once
// to store it. Nobody has to believe it: a pass whose content has another length
// ends, and the next one measures.

const (
	// hintSize is as much of a file's head as is needed to tell how it is
	// compressed and, of zstd, how long its content is.
	hintSize = 18

	xzFooterSize = 12
	xzHeaderSize = 12
	// maxXZIndex bounds the memory for a list of blocks; each takes a few bytes
	// and is usually larger than a megabyte.
	maxXZIndex = 4 << 20
)

// hint is how long the content of the compressed file probably is.
func (p *pass) hint(ctx context.Context, head []byte) int64 {
	size := int64(source.UnknownSize)
	switch p.compression {
	case "zstd":
		size = zstdSize(head)
	case "gzip", "xz":
		size = p.hintAtEnd(ctx)
	}
	if size <= 0 || size > min(image.MaxVirtualSize, p.MaxSize) {
		return source.UnknownSize
	}
	return size
}

// zstdSize reads the first frame's header. Nearly all files have one frame.
func zstdSize(head []byte) int64 {
	var header zstd.Header
	if err := header.Decode(head); err != nil || !header.HasFCS || header.FrameContentSize > image.MaxVirtualSize {
		return source.UnknownSize
	}
	return int64(header.FrameContentSize)
}

// hintAtEnd looks at the end of the file, if the source can be read there.
func (p *pass) hintAtEnd(ctx context.Context) int64 {
	ranged, ok := p.Source.(source.Ranged)
	if !ok {
		return source.UnknownSize
	}
	opened, err := ranged.OpenRanged(ctx)
	if err != nil {
		return source.UnknownSize
	}
	defer opened.Close()
	var size int64
	if p.compression == "xz" {
		size, err = xzSize(opened, opened.Size())
	} else {
		size, err = gzipSize(opened, opened.Size())
	}
	if err != nil || opened.Validator() != p.stream.Validator() {
		return source.UnknownSize
	}
	return size
}

// gzipSize reads the length modulo 4 GiB, and takes the smallest that is not
// shorter than the file.
func gzipSize(file io.ReaderAt, fileSize int64) (int64, error) {
	var end [4]byte
	if _, err := file.ReadAt(end[:], fileSize-int64(len(end))); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	const cycle = 1 << 32
	size := int64(binary.LittleEndian.Uint32(end[:]))
	// What cannot be compressed grows by less than a thousandth.
	if least := fileSize - fileSize/1000 - 1024; size < least {
		size += (least - size + cycle - 1) / cycle * cycle
	}
	return size, nil
}

var errNoXZ = errors.New("not the end of one xz stream")

// xzSize adds up the blocks that the index at the end of the file lists.
func xzSize(file io.ReaderAt, fileSize int64) (int64, error) {
	footer := make([]byte, xzFooterSize)
	if _, err := file.ReadAt(footer, fileSize-xzFooterSize); err != nil && !errors.Is(err, io.EOF) {
		return 0, err
	}
	indexSize := (int64(binary.LittleEndian.Uint32(footer[4:])) + 1) * 4
	if string(footer[10:]) != "YZ" || indexSize > maxXZIndex || indexSize > fileSize-xzFooterSize {
		return 0, errNoXZ
	}
	index := make([]byte, indexSize)
	if _, err := file.ReadAt(index, fileSize-xzFooterSize-indexSize); err != nil {
		return 0, err
	}
	stored, content, err := sumXZIndex(index)
	if err != nil || xzHeaderSize+stored+indexSize+xzFooterSize != fileSize {
		return 0, errNoXZ // Several streams, one behind the other.
	}
	return content, nil
}

// sumXZIndex returns how long all blocks are in the file and unpacked.
func sumXZIndex(index []byte) (stored, content int64, err error) {
	if index[0] != 0 {
		return 0, 0, errNoXZ
	}
	rest := index[1:]
	next := func() int64 {
		value, n := binary.Uvarint(rest)
		if n <= 0 || value > image.MaxVirtualSize {
			err = errNoXZ
			return 0
		}
		rest = rest[n:]
		return int64(value)
	}
	for blocks := next(); blocks > 0 && err == nil; blocks-- {
		stored += (next() + 3) / 4 * 4
		content += next()
		if stored < 0 || content < 0 || content > image.MaxVirtualSize {
			err = errNoXZ
		}
	}
	return stored, content, err
}
