// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"errors"
	"io"
	"sync"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

// rememberingStream keeps the error that the source ended with: the stages
// behind it wrap, replace or outrun it. Reading happens on another goroutine
// than asking.
type rememberingStream struct {
	source.Stream

	mu  sync.Mutex
	err error
}

// Read implements io.Reader.
func (s *rememberingStream) Read(p []byte) (int, error) {
	n, err := s.Stream.Read(p)
	s.mu.Lock()
	defer s.mu.Unlock()
	if err != nil && !errors.Is(err, io.EOF) && s.err == nil {
		s.err = err
	}
	return n, err
}

func (s *rememberingStream) failure() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// rememberingReader keeps the error that a request's body ended with, which the
// HTTP client may bury under its own. The transport may still be reading when
// the request has failed, hence the lock.
type rememberingReader struct {
	io.Reader

	mu  sync.Mutex
	err error
}

// Read implements io.Reader.
func (r *rememberingReader) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		r.mu.Lock()
		r.err = err
		r.mu.Unlock()
	}
	return n, err
}

func (r *rememberingReader) failure() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}
