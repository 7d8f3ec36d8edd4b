// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// OpenRanged implements Ranged. It asks for one byte to learn whether the server
// knows ranges, how long the image is and which version it is.
func (h *HTTP) OpenRanged(ctx context.Context) (ReaderAt, error) {
	var opened *httpReaderAt
	err := h.repeat(ctx, h.options.SlowContact, func() error {
		var err error
		opened, err = h.openRanged(ctx)
		return err
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (h *HTTP) openRanged(ctx context.Context) (*httpReaderAt, error) {
	probe, cancel := context.WithCancel(ctx)
	// Cancelling first keeps Close from reading a body that may be the image.
	defer cancel()
	response, err := h.get(probe, h.ranged, "bytes=0-0", "")
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable:
		cancel()
		return nil, ErrNotRanged
	default:
		return nil, h.statusFailure(response)
	}
	received, err := parseContentRange(response.Header.Get("Content-Range"))
	validator := validatorOf(response.Header)
	switch {
	case err != nil, received.check(0, 1, response) != nil, received.total == UnknownSize,
		validator == "" && !h.immutable, h.checkEncoding(response) != nil, response.Header.Get("Content-Encoding") != "":
		cancel()
		return nil, ErrNotRanged
	}
	// Read to the end, the connection serves the next request.
	_, _ = io.CopyN(io.Discard, response.Body, 2)
	reading, stop := context.WithCancel(ctx)
	return &httpReaderAt{source: h, ctx: reading, stop: stop, size: received.total, validator: validator}, nil
}

// httpReaderAt reads one image by a request for each range.
type httpReaderAt struct {
	source    *HTTP
	ctx       context.Context
	stop      context.CancelFunc
	size      int64
	validator string
	received  atomic.Int64
}

// Size implements ReaderAt.
func (r *httpReaderAt) Size() int64 { return r.size }

// Validator implements ReaderAt.
func (r *httpReaderAt) Validator() string { return r.validator }

// Received implements ReaderAt.
func (r *httpReaderAt) Received() int64 { return r.received.Load() }

// Close ends the reads that are under way.
func (r *httpReaderAt) Close() error {
	r.stop()
	return nil
}

// ReadAt implements io.ReaderAt.
func (r *httpReaderAt) ReadAt(p []byte, offset int64) (int, error) {
	if offset < 0 {
		return 0, errors.New("read before the image's first byte")
	}
	if offset >= r.size {
		return 0, io.EOF
	}
	wanted := p[:min(int64(len(p)), r.size-offset)]
	done := 0
	// A broken answer is continued where it broke.
	err := r.source.repeat(r.ctx, 0, func() error {
		for done < len(wanted) {
			n, err := r.readOnce(wanted[done:], offset+int64(done))
			done += n
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && done < len(p) {
		err = io.EOF
	}
	return done, err
}

// readOnce reads what one answer holds, which may be less than asked for.
func (r *httpReaderAt) readOnce(p []byte, offset int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	ctx, cancel := context.WithCancel(r.ctx)
	defer cancel()
	response, err := r.source.get(ctx, r.source.ranged, fmt.Sprintf("bytes=%d-%d", offset, offset+int64(len(p))-1), r.validator)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	received, err := r.accept(response, offset, int64(len(p)))
	if err != nil {
		cancel()
		return 0, err
	}
	n, err := r.readBody(response.Body, p[:received.last-received.first+1], cancel)
	r.received.Add(int64(n))
	if err != nil {
		return n, r.source.broken(r.ctx, err, offset+int64(n), r.size)
	}
	return n, nil
}

func (r *httpReaderAt) readBody(body io.Reader, p []byte, cancel func()) (int, error) {
	guard := newStallGuard(r.source.options, cancel)
	n := 0
	for n < len(p) {
		got, err := guard.read(body, p[n:])
		n += got
		if err != nil && n < len(p) {
			return n, err
		}
	}
	// Read to the end, the connection serves the next request.
	_, _ = guard.read(body, make([]byte, 1))
	return n, nil
}

func (r *httpReaderAt) accept(response *http.Response, offset, length int64) (byteRange, error) {
	switch response.StatusCode {
	case http.StatusPartialContent:
	case http.StatusOK, http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionFailed:
		return byteRange{}, &ChangedError{Why: "the image on the server has changed while it was read"}
	default:
		return byteRange{}, r.source.statusFailure(response)
	}
	received, err := parseContentRange(response.Header.Get("Content-Range"))
	if err != nil {
		return byteRange{}, err
	}
	if err := received.check(offset, length, response); err != nil {
		return byteRange{}, err
	}
	if received.total != UnknownSize && received.total != r.size || !sameVersion(r.validator, response.Header) {
		return byteRange{}, &ChangedError{Why: "the image on the server has changed while it was read"}
	}
	return received, nil
}

// broken gives a connection that ended too early a reason.
func (h *HTTP) broken(ctx context.Context, cause error, offset, size int64) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	var typed *Error
	if errors.As(cause, &typed) {
		return typed
	}
	return &Error{Reason: report.SourceUnreachable, Field: "url",
		Message: fmt.Sprintf("the download from %s broke after %d of %s bytes: %v", h.url.Host, offset, sizeText(size), cause)}
}

// repeat calls until it succeeds, fails for good or has failed too often in a row. If
// slow is not zero, a failure that took that long is the last one.
func (h *HTTP) repeat(ctx context.Context, slow time.Duration, call func() error) error {
	for failures := 1; ; failures++ {
		began := time.Now()
		err := call()
		var failure *Error
		if err == nil || !errors.As(err, &failure) {
			return err
		}
		if slow > 0 && time.Since(began) >= slow {
			return failure
		}
		if err := h.pause(ctx, failure, failures); err != nil {
			return err
		}
	}
}

// pause waits before the next attempt, longer after each failure in a row. It
// returns the failure when there is to be no further attempt.
func (h *HTTP) pause(ctx context.Context, failure *Error, failures int) error {
	if failure.Permanent || failures >= h.options.Attempts {
		return failure
	}
	delay := time.NewTimer(h.options.RetryDelay << (failures - 1))
	defer delay.Stop()
	select {
	case <-delay.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
