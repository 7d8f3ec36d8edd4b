// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source reads images from where users keep them. What can go wrong
// there is told apart by reasons, and what may pass is tried again.
package source

import (
	"context"
	"fmt"
	"io"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// UnknownSize is the size of a stream whose source does not tell it.
const UnknownSize = -1

// Source is a place that an image can be read from, more than once.
type Source interface {
	// Open begins to read the image from its first byte.
	Open(ctx context.Context) (Stream, error)
}

// Stream is one pass over an image. Read continues by itself after errors that
// pass, as long as the source proves that the image is still the same.
type Stream interface {
	io.ReadCloser
	// Size of the image in bytes, or UnknownSize.
	Size() int64
	// Received counts the bytes that came from the source.
	Received() int64
}

// Error is what a source failed with. Its message holds no credentials: of a
// URL it shows neither user, password nor query. It wraps nothing on purpose: a
// connection that ended with io.EOF must not pass for the end of the image.
type Error struct {
	Reason    report.Reason
	Message   string
	Permanent bool
	// Field is the last part of the path of the field to change, for example url.
	Field string
}

// Error implements error.
func (e *Error) Error() string { return e.Message }

// ChangedError says that the image is not what it was when the stream began, or
// that the source cannot prove that it is. Everything read so far is worthless
// and another Open starts anew.
type ChangedError struct {
	Why string
}

// Error implements error.
func (e *ChangedError) Error() string {
	return fmt.Sprintf("the download was interrupted and cannot be continued: %s", e.Why)
}
