// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package upload

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/source"
)

const (
	// PathPrefix is what the token follows in the URL.
	PathPrefix = "/upload/"
	// DefaultStall is how long a client may send nothing before another may take
	// its place. A connection that broke on its way is not noticed otherwise.
	DefaultStall = 30 * time.Second
	// silence is after how long without a byte a connection is given up even if
	// nobody waits for its place.
	silence = 10 * time.Minute
	// answerTime is how long the last answers may take to reach their clients.
	answerTime = 10 * time.Second
)

// Options of the upload of one image.
type Options struct {
	// Token is the last part of the URL's path.
	Token string
	// Expires is when nobody may begin or go on any more.
	Expires time.Time
	// Stall is DefaultStall if zero.
	Stall  time.Duration
	Clock  clock.Clock
	Logger *slog.Logger
}

// Server receives one image. It is the importer's source.
type Server struct {
	options Options
	token   [sha256.Size]byte

	mu sync.Mutex
	// changed is closed and replaced whenever anything below changes.
	changed chan struct{}
	upload  upload
	// stream is the importer's current pass.
	stream *stream
	// active is the request whose body is read, or that waits for the result.
	active *transfer
	// outcome is set when the importer is done.
	outcome *outcome
	// handlers counts the requests that have not been answered.
	handlers int
}

var _ source.Resumable = (*Server)(nil)

// upload is the file as far as it has come.
type upload struct {
	// id tells this file from one that was begun anew.
	id     string
	begun  bool
	offset int64
	length int64
	// received is true when the importer has the last byte.
	received bool
}

// outcome is what the importer made of the file.
type outcome struct {
	result  *report.Result
	failure *report.Failure
}

// New makes a server without a listener.
func New(options Options) (*Server, error) {
	if options.Token == "" {
		return nil, errors.New("an upload needs a token")
	}
	if options.Stall == 0 {
		options.Stall = DefaultStall
	}
	return &Server{
		options: options,
		token:   sha256.Sum256([]byte(options.Token)),
		changed: make(chan struct{}),
		upload:  upload{length: source.UnknownSize},
	}, nil
}

// String is what the importer's log calls the source.
func (s *Server) String() string { return "upload" }

// Serve answers requests until the context ends.
func (s *Server) Serve(ctx context.Context, listener net.Listener) error {
	server := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       time.Minute,
		MaxHeaderBytes:    32 << 10,
		// Whoever still waits for an answer when the importer ends gets one.
		BaseContext: func(net.Listener) context.Context { return ctx },
		ErrorLog:    slog.NewLogLogger(s.options.Logger.Handler(), slog.LevelDebug),
	}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		// A connection that is closed while its client sends takes the answer with it.
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), answerTime)
		defer cancel()
		_ = server.Shutdown(grace)
		_ = server.Close()
	}()
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve uploads: %w", err)
	}
	<-stopped
	return nil
}

// Finish tells the client what has become of the file and returns when the
// client has got the answer, or cannot be reached. An error that is no
// *report.Failure means that the importer was interrupted.
func (s *Server) Finish(result *report.Result, err error) {
	s.mu.Lock()
	s.outcome = &outcome{result: result}
	if err != nil {
		s.outcome.result = nil
		if !errors.As(err, &s.outcome.failure) {
			s.outcome.failure = &report.Failure{Reason: report.Internal, Message: "the import was interrupted: try again"}
		}
	}
	if t := s.active; t != nil {
		if !s.upload.received {
			t.interrupt()
		}
		s.end(t, s.outcome.reply(t.order))
	}
	s.announce()
	defer s.mu.Unlock()
	patience, cancel := context.WithTimeout(context.Background(), answerTime)
	defer cancel()
	for s.handlers > 0 && s.wait(patience.Done()) {
	}
}

// count keeps the number of handlers.
func (s *Server) count(change int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.handlers += change
	s.announce()
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.count(1)
	defer s.count(-1)
	rest, found := strings.CutPrefix(r.URL.Path, PathPrefix)
	// curl puts the file's name behind a URL that ends with a slash.
	token, _, _ := strings.Cut(rest, "/")
	given := sha256.Sum256([]byte(token))
	// Whatever is wrong, the answer is the same and takes the same time.
	if subtle.ConstantTimeCompare(given[:], s.token[:]) != 1 || !found {
		reply{status: http.StatusNotFound, text: "there is no such upload"}.send(w)
		return
	}
	w.Header().Set("Cache-Control", "no-store")
	switch r.Method {
	case http.MethodHead:
		s.tell(r).send(w)
	case http.MethodOptions:
		w.Header().Set(headerTus, tusVersion)
		w.Header().Set("Tus-Version", tusVersion)
		w.Header().Set("Tus-Extension", "creation,creation-with-upload")
		w.Header().Set("Allow", allMethods)
		w.WriteHeader(http.StatusNoContent)
	case http.MethodPut, http.MethodPost, http.MethodPatch:
		s.receive(w, r).send(w)
	default:
		w.Header().Set("Allow", allMethods)
		reply{status: http.StatusMethodNotAllowed, text: "send the image here: `curl -T FILE URL`"}.send(w)
	}
}

// tell answers how much has arrived. A client that asks for it after the last
// byte wants to know whether it is done.
func (s *Server) tell(r *http.Request) reply {
	s.mu.Lock()
	defer s.mu.Unlock()
	for s.upload.received && s.outcome == nil {
		if !s.wait(r.Context().Done()) {
			break
		}
	}
	if s.outcome != nil && s.outcome.failure != nil {
		return s.outcome.reply(order{tus: true})
	}
	return s.progress(reply{status: http.StatusNoContent, tus: true})
}

// progress adds to a reply how far the file has come. The lock is held.
func (s *Server) progress(r reply) reply {
	r.progress, r.offset, r.length = true, s.upload.offset, s.upload.length
	r.complete = s.outcome != nil && s.outcome.result != nil
	return r
}

// reply is the answer to a request.
type reply struct {
	status int
	// text is for people.
	text   string
	result *report.Result
	tus    bool

	progress       bool
	offset, length int64
	complete       bool
	location       string
}

// send writes the answer.
func (r reply) send(w http.ResponseWriter) {
	header := w.Header()
	if r.tus {
		header.Set(headerTus, tusVersion)
	}
	if r.location != "" {
		header.Set("Location", r.location)
	}
	if r.progress {
		header.Set(headerOffset, strconv.FormatInt(r.offset, 10))
		header.Set(headerComplete, map[bool]string{false: "?0", true: "?1"}[r.complete])
		if r.length != source.UnknownSize {
			header.Set(headerLength, strconv.FormatInt(r.length, 10))
		}
	}
	if r.status == http.StatusServiceUnavailable {
		// `curl --retry` waits for as long, and sends the file again.
		header.Set("Retry-After", "1")
	}
	if r.status >= http.StatusBadRequest {
		// A body that was not read would be taken for the next request.
		header.Set("Connection", "close")
	}
	var body string
	if r.status != http.StatusNoContent {
		body = r.body()
		header.Set("Content-Type", "text/plain; charset=utf-8")
		header.Set("X-Content-Type-Options", "nosniff")
		header.Set("Content-Length", strconv.Itoa(len(body)))
	}
	w.WriteHeader(r.status)
	_, _ = io.WriteString(w, body)
	// The importer may exit as soon as this has returned.
	_ = http.NewResponseController(w).Flush()
}

func (r reply) body() string {
	if r.result != nil {
		return fmt.Sprintf("published as %s: %s, %d bytes, a disk of %d bytes\n", r.result.Digest, r.result.Format, r.result.StoredSizeBytes, r.result.VirtualSizeBytes)
	}
	return r.text + "\n"
}

// reply tells a client the outcome.
func (o *outcome) reply(to order) reply {
	switch {
	case o.failure != nil:
		return reply{status: statusOf(o.failure), text: o.failure.Error(), tus: to.tus}
	case to.tus:
		return reply{status: http.StatusNoContent, tus: true}
	}
	return reply{status: http.StatusCreated, result: o.result}
}

// statusOf tells a client that has to do something else from one that has to try
// again.
func statusOf(failure *report.Failure) int {
	switch {
	case failure.Permanent:
		return http.StatusUnprocessableEntity
	case failure.Reason == report.RegistryFull || failure.Reason == report.VolumeFull:
		return http.StatusInsufficientStorage
	}
	return http.StatusServiceUnavailable
}
