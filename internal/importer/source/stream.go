// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package source

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
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

// httpStream reads one image over as many connections as it takes.
type httpStream struct {
	source *HTTP
	ctx    context.Context

	size int64
	// validator proves to the server which version of the image was begun.
	validator string
	offset    int64
	received  int64

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
func (s *httpStream) Received() int64 { return s.received }

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
	s.received += n
	if s.sinceFailures += n; s.sinceFailures >= forgivingBytes {
		s.failures = 0
	}
}

// interrupted decides whether a broken stream is continued, which is when it
// returns nil.
func (s *httpStream) interrupted(cause error) error {
	if s.ctx.Err() != nil {
		return s.ctx.Err()
	}
	if errors.Is(cause, io.EOF) {
		cause = io.ErrUnexpectedEOF
	}
	var typed *Error
	if !errors.As(cause, &typed) {
		typed = &Error{Reason: report.SourceUnreachable, Field: "url",
			Message: fmt.Sprintf("the download from %s broke after %d of %s bytes: %v", s.source.url.Host, s.offset, sizeText(s.size), cause)}
	}
	return s.retry(typed)
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
	if failure.Permanent || s.failures >= s.source.options.Attempts {
		return failure
	}
	delay := time.NewTimer(s.source.options.RetryDelay << (s.failures - 1))
	defer delay.Stop()
	select {
	case <-delay.C:
		return nil
	case <-s.ctx.Done():
		return s.ctx.Err()
	}
}

// connect requests the image from the current offset on, repeatedly if need be.
func (s *httpStream) connect() error {
	if s.offset > 0 && s.validator == "" {
		return &ChangedError{Why: "the server sends neither a strong ETag nor Last-Modified, so nothing proves that the rest belongs to the same image"}
	}
	for {
		err := s.connectOnce()
		var failure *Error
		if err == nil || !errors.As(err, &failure) {
			return err
		}
		if err := s.retry(failure); err != nil {
			return err
		}
	}
}

func (s *httpStream) connectOnce() error {
	ctx, cancel := context.WithCancel(s.ctx)
	response, err := s.source.get(ctx, s.offset, s.validator)
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
	s.stall = newStallGuard(s.source.options, cancel)
	return nil
}

// accept checks that the answer is the image from the current offset on.
func (s *httpStream) accept(response *http.Response) error {
	if s.offset > 0 {
		return s.acceptRest(response)
	}
	if response.StatusCode != http.StatusOK {
		return s.source.statusFailure(response)
	}
	if s.size = response.ContentLength; s.size < 0 {
		s.size = UnknownSize
		// Such an answer ends where the connection does, whole or not.
		if len(response.TransferEncoding) == 0 && !s.source.options.Verified {
			return &Error{Reason: report.SourceUnreachable, Permanent: true, Field: "checksum",
				Message: "the server does not say how long the image is, so a broken download cannot be told from a complete one: give a checksum"}
		}
	}
	s.validator = validatorOf(response.Header)
	return nil
}

func (s *httpStream) acceptRest(response *http.Response) error {
	switch response.StatusCode {
	case http.StatusPartialContent:
		return s.checkRange(response.Header.Get("Content-Range"))
	case http.StatusOK:
		return &ChangedError{Why: "the server sends the whole image again, so either it has changed or the server does not support ranges"}
	case http.StatusRequestedRangeNotSatisfiable, http.StatusPreconditionFailed:
		return &ChangedError{Why: "the image on the server is no longer that long"}
	}
	return s.source.statusFailure(response)
}

var contentRange = regexp.MustCompile(`^bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)$`)

// checkRange verifies that a partial answer begins where it was asked to and
// leads to the end of an image of the same size.
func (s *httpStream) checkRange(header string) error {
	match := contentRange.FindStringSubmatch(strings.TrimSpace(header))
	if match == nil {
		return &ChangedError{Why: "the server's Content-Range makes no sense"}
	}
	first, _ := strconv.ParseInt(match[1], 10, 64)
	last, _ := strconv.ParseInt(match[2], 10, 64)
	if first != s.offset || last < first {
		return &ChangedError{Why: "the server sends another range than the one asked for"}
	}
	if match[3] != "*" {
		total, _ := strconv.ParseInt(match[3], 10, 64)
		if s.size != UnknownSize && total != s.size {
			return &ChangedError{Why: fmt.Sprintf("the image had %d bytes and now has %d", s.size, total)}
		}
	}
	return nil
}

// validatorOf returns what If-Range may hold: a strong ETag, else the time of
// the last change. A weak ETag does not promise identical bytes.
func validatorOf(header http.Header) string {
	if etag := header.Get("ETag"); strings.HasPrefix(etag, `"`) {
		return etag
	}
	return header.Get("Last-Modified")
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
