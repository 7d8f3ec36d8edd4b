// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reportserver takes the progress that importers post and wakes the
// controllers that wait for it, so that nobody has to poll.
package reportserver

import (
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	// Path is where the handler is mounted.
	Path = "/reports"
	// expiry is after how long without news an importer is forgotten. It posts
	// every few seconds while it lives.
	expiry = 10 * time.Minute
	// maxBody is far more than a progress report with a checkpoint
	// and a failure needs.
	maxBody = 2*report.MaxCheckpointBytes + report.MaxTerminationBytes + 4<<10
	// eventBuffer is how many wake-ups may wait for a controller. More are
	// dropped: the importer's next post wakes it again.
	eventBuffer = 1024
)

// Verifier checks the token of a post.
type Verifier interface {
	Verify(signed string) (*token.Claims, error)
}

// Report is the newest progress of one import.
type Report struct {
	report.Progress
	// At is when it arrived.
	At time.Time
}

// Server keeps the newest progress of each import. It is an http.Handler.
type Server struct {
	verifier Verifier
	clock    clock.PassiveClock
	// leading is closed when the controllers of this process work; nil if they always do.
	leading <-chan struct{}

	mu      sync.Mutex
	reports map[token.Subject]Report
	events  map[string][]chan event.GenericEvent
}

// New makes a server that trusts the verifier.
func New(verifier Verifier, clock clock.PassiveClock) *Server {
	return &Server{
		verifier: verifier,
		clock:    clock,
		reports:  map[token.Subject]Report{},
		events:   map[string][]chan event.GenericEvent{},
	}
}

// Await makes the server send importers elsewhere until the channel is closed: of several
// replicas only one reconciles, and what another one is told is lost. It is called before
// the server serves.
func (s *Server) Await(leading <-chan struct{}) { s.leading = leading }

func (s *Server) leads() bool {
	if s.leading == nil {
		return true
	}
	select {
	case <-s.leading:
		return true
	default:
		return false
	}
}

// Events returns a channel that holds an event for each post about an object of the
// kind. It is meant for controller-runtime's source.Channel: every call makes a
// channel of its own, so that each controller hears of every post. The events'
// objects carry name, namespace and uid only.
func (s *Server) Events(kind string) <-chan event.GenericEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := make(chan event.GenericEvent, eventBuffer)
	s.events[kind] = append(s.events[kind], events)
	return events
}

// Latest returns the newest progress of the subject's import, if there is any
// that is not too old.
func (s *Server) Latest(subject token.Subject) (Report, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	latest, ok := s.reports[subject]
	if !ok || s.expired(latest) {
		return Report{}, false
	}
	return latest, true
}

// Forget drops what is known of the subject's import.
func (s *Server) Forget(subject token.Subject) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.reports, subject)
}

// ServeHTTP accepts one report.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "progress is posted", http.StatusMethodNotAllowed)
		return
	}
	subject, ok := s.authenticate(r)
	if !ok {
		w.Header().Set("WWW-Authenticate", `Bearer realm="reports"`)
		http.Error(w, "a token of this import is needed", http.StatusUnauthorized)
		return
	}
	if !s.leads() {
		// The next connection may lead to another replica.
		w.Header().Set("Connection", "close")
		http.Error(w, "another replica takes the reports", http.StatusMisdirectedRequest)
		return
	}
	progress, problem := decode(http.MaxBytesReader(w, r.Body, maxBody))
	if problem != "" {
		http.Error(w, problem, http.StatusBadRequest)
		return
	}
	s.keep(subject, progress)
	w.WriteHeader(http.StatusNoContent)
}

// decode reads a report, or tells what is wrong with it.
func decode(body io.Reader) (progress report.Progress, problem string) {
	if err := json.NewDecoder(body).Decode(&progress); err != nil {
		return progress, "the body is not a progress report"
	}
	for _, number := range []int64{
		progress.TransferredBytes, progress.TotalBytes, progress.BytesPerSecond, progress.AverageBytesPerSecond, int64(progress.Attempts),
	} {
		if number < 0 {
			return progress, "a progress report has no negative numbers"
		}
	}
	if failure := progress.Failure; failure != nil {
		// It ends up in conditions and events.
		progress.Failure = failure.Short()
	}
	if _, err := report.ParseCheckpoint(progress.Checkpoint); err != nil {
		// The numbers are right all the same; only an import that is started again
		// would begin anew.
		progress.Checkpoint = nil
	}
	return progress, ""
}

// authenticate returns the subject of the request's token. The token of an
// import is the only credential its pod has, and it names exactly one object.
func (s *Server) authenticate(r *http.Request) (token.Subject, bool) {
	scheme, signed, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return token.Subject{}, false
	}
	claims, err := s.verifier.Verify(strings.TrimSpace(signed))
	if err != nil {
		return token.Subject{}, false
	}
	subject, err := token.ParseSubject(claims.Subject)
	return subject, err == nil
}

// keep stores the report and wakes the controllers that wait for the subject's kind.
func (s *Server) keep(subject token.Subject, progress report.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, latest := range s.reports {
		if s.expired(latest) {
			delete(s.reports, old)
		}
	}
	if len(progress.Checkpoint) == 0 {
		// Not every report brings one; what was durable then still is.
		progress.Checkpoint = s.reports[subject].Checkpoint
	}
	s.reports[subject] = Report{Progress: progress, At: s.clock.Now()}
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: subject.Namespace,
		Name:      subject.Name,
		UID:       types.UID(subject.UID),
	}}
	object.Kind = subject.Kind
	for _, events := range s.events[subject.Kind] {
		select {
		case events <- event.GenericEvent{Object: object}:
		default:
		}
	}
}

func (s *Server) expired(latest Report) bool { return s.clock.Since(latest.At) > expiry }
