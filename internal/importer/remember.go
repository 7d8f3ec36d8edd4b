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
