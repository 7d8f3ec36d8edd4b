// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"io"
	"sync"

	"github.com/deckhouse/virtualization/internal/directio"
)

// aheadSize is read at once. Files that are not larger are left to the page cache.
const aheadSize = 1 << 20

// pages are used again, like blocks.
var pages = sync.Pool{New: func() any {
	memory := directio.Buffer(aheadSize)
	return &memory
}}

// reader reads a file past the page cache, and ahead of whoever sends it: the disk
// works while a part is encrypted. It begins to do so when the first part was not
// enough.
type reader struct {
	file *directio.File
	// at is the offset of the next part.
	at   int64
	part part
	read int

	ahead chan part
	stop  chan struct{}
}

// part of a file, at whose end there may be an error.
type part struct {
	memory *[]byte
	bytes  []byte
	err    error
}

// openReader returns nil for a file that the page cache does as well for.
func openReader(name string, offset int64) *reader {
	file, err := directio.Open(name, 0, 0)
	if err != nil {
		return nil // Whoever opens it otherwise tells why.
	}
	info, err := file.Stat()
	if err != nil || !file.Direct() || !info.Mode().IsRegular() || info.Size()-offset <= aheadSize {
		file.Close()
		return nil
	}
	return &reader{file: file, at: offset}
}

// Read implements io.Reader.
func (r *reader) Read(p []byte) (int, error) {
	if r.read == len(r.part.bytes) && r.part.err == nil {
		r.next()
	}
	n := copy(p, r.part.bytes[r.read:])
	r.read += n
	if n == 0 && len(p) > 0 {
		return 0, r.part.err
	}
	return n, nil
}

// next takes the next part: the first one from the file, all others from ahead.
func (r *reader) next() {
	first := r.part.memory == nil
	r.drop(r.part)
	r.read = 0
	switch {
	case first:
		r.part = r.load()
		return
	case r.ahead == nil:
		r.ahead, r.stop = make(chan part, 1), make(chan struct{})
		go r.run()
	}
	r.part = <-r.ahead
}

// run reads until the file ends or nobody wants more.
func (r *reader) run() {
	defer close(r.ahead)
	for {
		p := r.load()
		select {
		case r.ahead <- p:
		case <-r.stop:
			r.drop(p)
			return
		}
		if p.err != nil {
			return
		}
	}
}

// load reads up to the next multiple of its size.
func (r *reader) load() part {
	p := part{memory: pages.Get().(*[]byte)}
	within := r.at % aheadSize
	// What is in front of the offset comes along: only whole pages pass by the cache.
	skipped := within % pageSize
	n, err := r.file.ReadAt((*p.memory)[:aheadSize-within+skipped], r.at-skipped)
	p.bytes, p.err = (*p.memory)[min(int(skipped), n):n], err
	r.at += int64(len(p.bytes))
	return p
}

func (r *reader) drop(p part) {
	if p.memory != nil {
		pages.Put(p.memory)
	}
}

// Close implements io.Closer. It waits for a read that is under way.
func (r *reader) Close() error {
	if r.ahead != nil {
		close(r.stop)
		for p := range r.ahead {
			r.drop(p)
		}
		r.ahead = nil
	}
	r.drop(r.part)
	r.part = part{err: errClosed}
	r.read = 0
	return errors.Join(r.file.Close())
}

var _ io.ReadCloser = (*reader)(nil)
