// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/source"
)

// transfer is a request with bytes of the file.
type transfer struct {
	order order
	body  *patientReader
	// answer gets the one answer.
	answer chan reply
	// readingSince is when the importer began to wait for bytes; zero while it
	// does not want any. The server's lock guards it.
	readingSince time.Time
}

// interrupt makes reading the body fail, now and later.
func (t *transfer) interrupt() { t.body.interrupt() }

// receive hands a request to the importer and returns the answer.
func (s *Server) receive(w http.ResponseWriter, r *http.Request) reply {
	order, problem := parse(r.Method, r.Header, r.ContentLength)
	if problem != nil {
		return reply{status: problem.status, text: problem.message, tus: order.tus}
	}
	t := &transfer{
		order:  order,
		body:   &patientReader{body: r.Body, connection: http.NewResponseController(w)},
		answer: make(chan reply, 1),
	}
	if refusal := s.admit(r, t); refusal != nil {
		return *refusal
	}
	select {
	case answer := <-t.answer:
		return answer
	case <-r.Context().Done():
	}
	// The client is gone, or the answer has just closed the connection's reading.
	s.abandon(t)
	select {
	case answer := <-t.answer:
		return answer
	default:
		return reply{status: http.StatusServiceUnavailable, text: "the client went away", tus: order.tus}
	}
}

// patientReader reads a body from a connection that it gives up when it is
// silent for long.
type patientReader struct {
	body       io.Reader
	connection *http.ResponseController

	mu          sync.Mutex
	interrupted bool
}

var errInterrupted = errors.New("the request was interrupted")

// Read implements io.Reader.
func (r *patientReader) Read(p []byte) (int, error) {
	if !r.extend() {
		return 0, errInterrupted
	}
	return r.body.Read(p)
}

// extend sets the connection's deadline; false if it was interrupted.
func (r *patientReader) extend() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.interrupted {
		// A connection that can have no deadline is read without one.
		_ = r.connection.SetReadDeadline(time.Now().Add(silence))
	}
	return !r.interrupted
}

func (r *patientReader) interrupt() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.interrupted = true
	_ = r.connection.SetReadDeadline(time.Unix(1, 0))
}

// admit makes the transfer the active one, or returns why it is not.
func (s *Server) admit(r *http.Request, t *transfer) *reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.active != nil && s.stalled(s.active) {
		s.active.interrupt()
		if !s.wait(r.Context().Done()) {
			return &reply{status: http.StatusServiceUnavailable, text: "the client went away"}
		}
	}
	refusal := s.refusal(t.order)
	if refusal != nil {
		answer := s.progress(*refusal)
		answer.tus = t.order.tus
		return &answer
	}
	if t.order.begins || !s.upload.begun {
		s.begin(t.order)
	}
	if t.order.announces {
		answer := s.progress(reply{status: http.StatusCreated, text: "send the file here with PATCH", location: r.URL.Path, tus: true})
		return &answer
	}
	if s.upload.length == source.UnknownSize {
		s.upload.length = t.order.length
	}
	s.active = t
	s.announce()
	return nil
}

// refusal says why a request cannot be served now; nil if it can.
func (s *Server) refusal(o order) *reply {
	switch {
	case s.outcome != nil:
		answer := s.outcome.reply(o)
		return &answer
	case s.upload.received:
		return &reply{status: http.StatusConflict, text: "the whole file has arrived and is being stored"}
	case s.active != nil:
		return &reply{status: http.StatusConflict, text: "another client is sending the file"}
	case !s.options.Clock.Now().Before(s.options.Expires):
		return &reply{status: http.StatusGone, text: "the upload has expired: see the object's status for a new URL"}
	case o.begins:
		return nil
	case !s.upload.begun && o.length == source.UnknownSize && !o.last:
		// Begun like this the file would have no end. Clients of tus take this
		// status for an upload that is gone, and begin it anew.
		return &reply{status: http.StatusNotFound, text: "nothing of the file has arrived: send it from its first byte with PUT, or name its length in " + headerLength}
	case o.offset != s.upload.offset:
		return &reply{status: http.StatusConflict, text: fmt.Sprintf("go on at byte %d of the file", s.upload.offset)}
	case o.length != source.UnknownSize && s.upload.length != source.UnknownSize && o.length != s.upload.length:
		return &reply{status: http.StatusConflict, text: fmt.Sprintf("the file was begun with a length of %d bytes", s.upload.length)}
	}
	return nil
}

// begin starts the file from its first byte. What the importer has of another
// one it throws away.
func (s *Server) begin(o order) {
	if s.upload.begun && s.upload.offset > 0 {
		s.options.Logger.Info("the client begins the file anew", "had", s.upload.offset)
	}
	s.upload = upload{id: rand.Text(), begun: true, length: o.length}
	s.announce()
}

// stalled tells whether a client has sent nothing for long although the importer
// waits for it.
func (s *Server) stalled(t *transfer) bool {
	return !t.readingSince.IsZero() && s.options.Clock.Since(t.readingSince) >= s.options.Stall
}

// end answers a request. The lock is held.
func (s *Server) end(t *transfer, answer reply) {
	if s.active == t {
		s.active = nil
	}
	select {
	case t.answer <- answer:
	default: // It has been answered.
	}
	s.announce()
}

// abandon waits until nobody reads the body of a client that is gone.
func (s *Server) abandon(t *transfer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.interrupt()
	for s.active == t && !t.readingSince.IsZero() {
		s.wait(nil)
	}
	if s.active == t {
		s.active = nil
		s.announce()
	}
}

// announce wakes all who wait. The lock is held.
func (s *Server) announce() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// wait gives the lock away until something changes; false if stop came first.
func (s *Server) wait(stop <-chan struct{}) bool {
	changed := s.changed
	s.mu.Unlock()
	defer s.mu.Lock()
	select {
	case <-changed:
		return true
	case <-stop:
		return false
	}
}
