// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package reportserver takes the progress that importers post and wakes the
// controllers that wait for it, so that nobody has to poll.
package reportserver

import (
	"encoding/json"
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
	// maxBody is far more than a progress report needs.
	maxBody = 4 << 10
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

	mu      sync.Mutex
	reports map[token.Subject]Report
	events  map[string]chan event.GenericEvent
}

// New makes a server that trusts the verifier.
func New(verifier Verifier, clock clock.PassiveClock) *Server {
	return &Server{
		verifier: verifier,
		clock:    clock,
		reports:  map[token.Subject]Report{},
		events:   map[string]chan event.GenericEvent{},
	}
}

// Events returns the channel that holds an event for each post about an object
// of the kind. It is meant for controller-runtime's source.Channel; one kind
// has one channel, so it has one reader. The events' objects carry name,
// namespace and uid only.
func (s *Server) Events(kind string) <-chan event.GenericEvent {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events[kind] == nil {
		s.events[kind] = make(chan event.GenericEvent, eventBuffer)
	}
	return s.events[kind]
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
	var progress report.Progress
	if err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&progress); err != nil {
		http.Error(w, "the body is not a progress report", http.StatusBadRequest)
		return
	}
	if progress.TransferredBytes < 0 || progress.TotalBytes < 0 || progress.BytesPerSecond < 0 || progress.AverageBytesPerSecond < 0 {
		http.Error(w, "a progress report has no negative numbers", http.StatusBadRequest)
		return
	}
	s.keep(subject, progress)
	w.WriteHeader(http.StatusNoContent)
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

// keep stores the report and wakes the controller of the subject's kind.
func (s *Server) keep(subject token.Subject, progress report.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for old, latest := range s.reports {
		if s.expired(latest) {
			delete(s.reports, old)
		}
	}
	s.reports[subject] = Report{Progress: progress, At: s.clock.Now()}
	events := s.events[subject.Kind]
	if events == nil {
		return // Nobody asked for this kind's events.
	}
	object := &metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Namespace: subject.Namespace,
		Name:      subject.Name,
		UID:       types.UID(subject.UID),
	}}
	object.Kind = subject.Kind
	select {
	case events <- event.GenericEvent{Object: object}:
	default:
	}
}

func (s *Server) expired(latest Report) bool { return s.clock.Since(latest.At) > expiry }
