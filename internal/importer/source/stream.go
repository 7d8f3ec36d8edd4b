// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

// forgivingBytes is how much has to arrive before earlier failures no longer
// count. Without it a server that drops every connection after a few bytes
// would be asked for ever.
const forgivingBytes = 1 << 20

// Open implements Source.
func (h *HTTP) Open(ctx context.Context) (Stream, error) {
	s := &httpStream{source: h, ctx: ctx, size: UnknownSize}
	if err := s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

// OpenAt implements Resumable.
func (h *HTTP) OpenAt(ctx context.Context, offset int64, validator string) (Stream, error) {
	s := &httpStream{source: h, ctx: ctx, size: UnknownSize, offset: offset}
	if offset > 0 {
		s.validator = validator
	}
	if err := s.connect(); err != nil {
		return nil, err
	}
	if s.validator != validator {
		s.disconnect()
		return nil, &ChangedError{Why: "the image on the server is another than the one that was begun"}
	}
	return s, nil
}

// httpStream reads one image over as many connections as it takes.
type httpStream struct {
	source *HTTP
	ctx    context.Context

	size int64
	// validator proves to the server which version of the image was begun.
	validator string
	offset    int64
	received  atomic.Int64

	body   io.ReadCloser
	cancel context.CancelFunc
	stall  *stallGuard

	failures      int
	sinceFailures int64
	// fatal is the error that ended the stream for good.
	fatal error
}

// Size implements Stream.
func (s *httpStream) Size() int64 { return s.size }

// Received implements Stream.
func (s *httpStream) Received() int64 { return s.received.Load() }

// Validator implements Stream.
func (s *httpStream) Validator() string { return s.validator }

// Close implements io.Closer.
func (s *httpStream) Close() error {
	s.disconnect()
	if s.fatal == nil {
		s.fatal = io.ErrClosedPipe
	}
	return nil
}

// Read implements io.Reader. It returns io.EOF only behind the last byte.
func (s *httpStream) Read(p []byte) (int, error) {
	for s.fatal == nil {
		if s.body == nil {
			if err := s.connect(); err != nil {
				s.fatal = err
				break
			}
		}
		n, err := s.stall.read(s.body, p)
		s.advance(int64(n))
		switch {
		case err == nil:
			return n, nil
		case errors.Is(err, io.EOF) && (s.size == UnknownSize || s.offset == s.size):
			s.disconnect()
			s.fatal = io.EOF
		default:
			s.disconnect()
			s.fatal = s.interrupted(err)
		}
		if n > 0 {
			return n, nil
		}
	}
	return 0, s.fatal
}

func (s *httpStream) advance(n int64) {
	s.offset += n
	s.received.Add(n)
	if s.sinceFailures += n; s.sinceFailures >= forgivingBytes {
		s.failures = 0
	}
}

// interrupted decides whether a broken stream is continued, which is when it
// returns nil.
func (s *httpStream) interrupted(cause error) error {
	err := s.source.broken(s.ctx, cause, s.offset, s.size)
	var failure *Error
	if !errors.As(err, &failure) {
		return err
	}
	return s.retry(failure)
}

func sizeText(size int64) string {
	if size == UnknownSize {
		return "unknown"
	}
	return strconv.FormatInt(size, 10)
}

// retry counts a failure and waits before the next attempt. It returns the
// failure when there is none.
func (s *httpStream) retry(failure *Error) error {
	s.failures++
	s.sinceFailures = 0
	return s.source.pause(s.ctx, failure, s.failures)
}

// connect requests the image from the current offset on, repeatedly if need be.
func (s *httpStream) connect() error {
	if s.offset > 0 && s.validator == "" && !s.source.immutable {
		return &ChangedError{Why: "the server sends neither a strong ETag nor Last-Modified, so nothing proves that the rest belongs to the same image"}
	}
	for {
		began := time.Now()
		err := s.connectOnce()
		var failure *Error
		if err == nil || !errors.As(err, &failure) {
			return err
		}
		if s.received.Load() == 0 && time.Since(began) >= s.source.options.SlowContact {
			return failure
		}
		if err := s.retry(failure); err != nil {
			return err
		}
	}
}

func (s *httpStream) connectOnce() error {
	ctx, cancel := context.WithCancel(s.ctx)
	response, err := s.source.get(ctx, s.source.client, s.rest(), s.validator)
	if err != nil {
		cancel()
		return err
	}
	if err := s.accept(response); err != nil {
		response.Body.Close()
		cancel()
		return err
	}
	s.body, s.cancel = response.Body, cancel
	if s.offset > 0 && s.offset == s.size {
		response.Body.Close() // Not the image, but what the server has to say about that.
		s.body = http.NoBody
	}
	s.stall = newStallGuard(s.source.options, cancel)
	return nil
}

// rest is the range that is still missing. Some registries know no open ranges;
// the size of what cannot change is safe to name.
func (s *httpStream) rest() string {
	switch {
	case s.offset == 0:
		return ""
	case s.source.immutable && s.size > s.offset:
		return fmt.Sprintf("bytes=%d-%d", s.offset, s.size-1)
	}
	return fmt.Sprintf("bytes=%d-", s.offset)
}

// accept checks that the answer is the image from the current offset on.
func (s *httpStream) accept(response *http.Response) error {
	if err := s.source.checkEncoding(response); err != nil && sent(response) {
		return err
	}
	if s.offset > 0 {
		return s.acceptRest(response)
	}
	if response.StatusCode != http.StatusOK {
		return s.source.statusFailure(response)
	}
	if s.size = response.ContentLength; s.size < 0 {
		s.size = UnknownSize
		// Such an answer ends where the connection does, whole or not.
		if len(response.TransferEncoding) == 0 && !s.source.options.Verified && !s.source.immutable {
			return &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "checksum",
				Message: "the server does not say how long the image is, so a broken download cannot be told from a complete one: give a checksum"}
		}
	}
	s.validator = validatorOf(response.Header)
	return nil
}

func (s *httpStream) acceptRest(response *http.Response) error {
	var total int64
	switch response.StatusCode {
	case http.StatusPartialContent:
		received, err := parseContentRange(response.Header.Get("Content-Range"))
		if err != nil {
			return err
		}
		if err := received.check(s.offset, UnknownSize, response); err != nil {
			return err
		}
		total = received.total
	case http.StatusRequestedRangeNotSatisfiable:
		// Nothing is left, which is no error when nothing should be.
		if total = unsatisfiedTotal(response.Header.Get("Content-Range")); total != s.offset {
			return &ChangedError{Why: "the image on the server is no longer that long"}
		}
	case http.StatusOK:
		return &ChangedError{Why: "the server sends the whole image again, so either it has changed or the server does not support ranges"}
	case http.StatusPreconditionFailed:
		return &ChangedError{Why: "the image on the server is no longer the same"}
	default:
		return s.source.statusFailure(response)
	}
	if !sameVersion(s.validator, response.Header) {
		return &ChangedError{Why: "the server sends the rest of another image"}
	}
	if total != UnknownSize {
		if s.size != UnknownSize && total != s.size {
			return &ChangedError{Why: fmt.Sprintf("the image had %d bytes and now has %d", s.size, total)}
		}
		s.size = total
	}
	return nil
}

func (s *httpStream) disconnect() {
	if s.body == nil {
		return
	}
	// Cancelling first keeps Close from draining what is left of the body.
	s.cancel()
	s.body.Close()
	s.body = nil
}
