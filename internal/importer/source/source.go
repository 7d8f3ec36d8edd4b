// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package source reads images from where users keep them. What can go wrong
// there is told apart by reasons, and what may pass is tried again.
package source

import (
	"context"
	"errors"
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
	// Received counts the bytes that came from the source. Any goroutine may ask.
	Received() int64
	// Validator proves to the source which version of the image was begun. It is
	// empty if the source has no such proof: then nothing can be continued.
	Validator() string
}

// Resumable is a source whose image can be read from the middle on.
type Resumable interface {
	Source
	// OpenAt reads the image from an offset on, if the image is still the one
	// that the validator belongs to; else the error is a *ChangedError. The
	// stream's Size is that of the whole image.
	OpenAt(ctx context.Context, offset int64, validator string) (Stream, error)
}

// Ranged is a source whose image can be read at random.
type Ranged interface {
	Source
	// OpenRanged fails with ErrNotRanged when this image cannot be read at random
	// after all, for example because its server knows no ranges.
	OpenRanged(ctx context.Context) (ReaderAt, error)
}

// ReaderAt reads one version of an image at random, from many goroutines at
// once. When the image changes meanwhile it fails with a *ChangedError.
type ReaderAt interface {
	io.ReaderAt
	io.Closer
	// Size of the image in bytes.
	Size() int64
	// Validator proves which version of the image it is; see Stream.
	Validator() string
	// Received counts the bytes that came from the source.
	Received() int64
}

// ErrNotRanged says that an image cannot be read at random.
var ErrNotRanged = errors.New("the image cannot be read at random")

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
