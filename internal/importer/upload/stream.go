// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

// Open implements source.Source: it waits for a client that begins the file.
func (s *Server) Open(ctx context.Context) (source.Stream, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.stream = nil
	if s.upload.offset > 0 {
		// The importer has dropped what came, and nobody else has kept it.
		if s.active != nil {
			s.active.interrupt()
			s.end(s.active, reply{status: http.StatusServiceUnavailable, text: "the file has to be sent once more, from its first byte, which `curl --retry 3` does by itself"})
		}
		s.upload = upload{length: source.UnknownSize}
		s.announce()
	}
	for !s.upload.begun {
		if err := s.await(ctx); err != nil {
			return nil, err
		}
	}
	return s.newStream(ctx), nil
}

// OpenAt implements source.Resumable: the file goes on at the offset, which is
// what clients are told from now on.
func (s *Server) OpenAt(ctx context.Context, offset int64, validator string) (source.Stream, error) {
	id, length, err := parseValidator(validator)
	if err != nil || offset < 0 || (length != source.UnknownSize && offset > length) {
		return nil, &source.ChangedError{Why: "the checkpoint is not one of an upload"}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.upload.begun && s.upload.id != id {
		return nil, &source.ChangedError{Why: "the client has begun the file anew"}
	}
	if s.active != nil && s.upload.offset != offset {
		s.active.interrupt()
		s.end(s.active, s.at(offset).progress(reply{status: http.StatusServiceUnavailable, text: fmt.Sprintf("go on at byte %d of the file", offset)}))
	}
	s.upload = upload{id: id, begun: true, offset: offset, length: length}
	s.announce()
	return s.newStream(ctx), nil
}

// at is the server with another offset, for an answer.
func (s *Server) at(offset int64) *Server {
	return &Server{upload: upload{offset: offset, length: s.upload.length}}
}

// A validator holds the file's identity and length, which no client repeats.
const validatorSeparator = ":"

func (u upload) validator() string {
	return u.id + validatorSeparator + strconv.FormatInt(u.length, 10)
}

func parseValidator(validator string) (id string, length int64, err error) {
	id, text, found := strings.Cut(validator, validatorSeparator)
	if !found || id == "" {
		return "", 0, errors.New("a validator consists of an identity and a length")
	}
	length, err = strconv.ParseInt(text, 10, 64)
	if err != nil || length < source.UnknownSize {
		return "", 0, errors.New("a validator's length is a number")
	}
	return id, length, nil
}

// newStream makes the importer's next pass. The lock is held.
func (s *Server) newStream(ctx context.Context) *stream {
	s.stream = &stream{server: s, ctx: ctx, id: s.upload.id, size: s.upload.length, validator: s.upload.validator()}
	return s.stream
}

// await waits for a change until the context ends or the upload expires.
func (s *Server) await(ctx context.Context) error {
	left := s.options.Expires.Sub(s.options.Clock.Now())
	if left <= 0 && s.active == nil {
		return &source.Error{Reason: report.SourceUnreachable, Permanent: true,
			Message: fmt.Sprintf("no image was uploaded until %s: see the object's status for a new URL", s.options.Expires.UTC().Format(time.RFC3339))}
	}
	timer := s.options.Clock.NewTimer(max(left, time.Second))
	defer timer.Stop()
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
	case <-timer.C():
	case <-ctx.Done():
		return ctx.Err()
	}
	return nil
}

// stream is one pass over the file.
type stream struct {
	server    *Server
	ctx       context.Context
	id        string
	size      int64
	validator string
	received  atomic.Int64
}

// Size implements source.Stream.
func (st *stream) Size() int64 { return st.size }

// Received implements source.Stream.
func (st *stream) Received() int64 { return st.received.Load() }

// Validator implements source.Stream.
func (st *stream) Validator() string { return st.validator }

// Close implements io.Closer. The client is answered by Finish, or goes on with
// the next pass.
func (st *stream) Close() error { return nil }

// Read implements io.Reader. While no client sends it waits for one.
func (st *stream) Read(p []byte) (int, error) {
	for {
		t, err := st.take()
		if err != nil {
			return 0, err
		}
		n, err := st.readFrom(t, p)
		err = st.account(t, n, err)
		switch {
		case err != nil && !errors.Is(err, io.EOF):
			return 0, err
		case n > 0 || err != nil:
			return n, err
		}
	}
}

// take returns the transfer to read from, marked as being read.
func (st *stream) take() (*transfer, error) {
	s := st.server
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case st.ctx.Err() != nil:
			return nil, st.ctx.Err()
		case s.stream != st || s.upload.id != st.id:
			return nil, &source.ChangedError{Why: "the client has begun the file anew"}
		case s.upload.received:
			return nil, io.EOF
		case s.active != nil:
			s.active.readingSince = s.options.Clock.Now()
			return s.active, nil
		}
		if err := s.await(st.ctx); err != nil {
			return nil, err
		}
	}
}

// readFrom reads the body. When the importer stops, it must not wait for the
// client any longer.
func (st *stream) readFrom(t *transfer, p []byte) (int, error) {
	stop := context.AfterFunc(st.ctx, t.interrupt)
	defer stop()
	if left := st.left(); left != source.UnknownSize && int64(len(p)) > left {
		// One byte more tells the end of the file from a body that is too long.
		p = p[:min(left+1, int64(len(p)))]
	}
	return t.body.Read(p)
}

// left is how much of the file is to come.
func (st *stream) left() int64 {
	st.server.mu.Lock()
	defer st.server.mu.Unlock()
	if st.server.upload.length == source.UnknownSize {
		return source.UnknownSize
	}
	return st.server.upload.length - st.server.upload.offset
}

// account notes what was read, and answers a request whose body is over. It
// returns io.EOF behind the last byte of the file.
func (st *stream) account(t *transfer, n int, err error) error {
	s := st.server
	s.mu.Lock()
	defer s.mu.Unlock()
	t.readingSince = time.Time{}
	defer s.announce()
	s.upload.offset += int64(n)
	st.received.Add(int64(n))
	length := s.upload.length
	switch {
	case length != source.UnknownSize && s.upload.offset > length:
		s.upload = upload{length: source.UnknownSize}
		s.end(t, reply{status: http.StatusBadRequest, text: fmt.Sprintf("the body is longer than the %d bytes of the file", length), tus: t.order.tus})
		return &source.ChangedError{Why: "the client sent more than the file's length"}
	case err == nil:
		return nil
	case s.upload.offset == length, errors.Is(err, io.EOF) && length == source.UnknownSize && t.order.last:
		// The answer waits for the importer.
		s.upload.received = true
		return io.EOF
	case errors.Is(err, io.EOF):
		s.end(t, s.progress(partial(t.order)))
		return nil
	}
	s.options.Logger.Info("the connection broke; waiting for the client to go on", "offset", s.upload.offset, "error", err)
	s.end(t, s.progress(reply{status: http.StatusServiceUnavailable, text: "the connection broke", tus: t.order.tus}))
	return nil
}

// partial acknowledges a body that is not the last.
func partial(o order) reply {
	if o.begins {
		return reply{status: http.StatusCreated, text: "send the rest with PATCH", tus: o.tus}
	}
	return reply{status: http.StatusNoContent, tus: o.tus}
}
