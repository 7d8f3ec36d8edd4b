// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package reportserver

import (
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

var (
	now    = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	debian = token.Subject{Kind: "VirtualImage", Namespace: "team", Name: "debian", UID: "1"}
)

// subjects is a verifier whose tokens are the subjects themselves.
type subjects struct{}

func (subjects) Verify(signed string) (*token.Claims, error) {
	if signed == "" || signed == "forged" {
		return nil, errors.New("forged")
	}
	return &token.Claims{RegisteredClaims: jwt.RegisteredClaims{Subject: signed}}, nil
}

func newServer() (*Server, *clocktesting.FakePassiveClock) {
	clock := clocktesting.NewFakePassiveClock(now)
	return New(subjects{}, clock), clock
}

func post(s *Server, authorization, body string) *httptest.ResponseRecorder {
	request := httptest.NewRequest(http.MethodPost, "/reports", strings.NewReader(body))
	if authorization != "" {
		request.Header.Set("Authorization", authorization)
	}
	response := httptest.NewRecorder()
	s.ServeHTTP(response, request)
	return response
}

// Of several replicas only the one that reconciles has a use for reports.
func TestReplicaThatDoesNotLeadSendsImportersElsewhere(t *testing.T) {
	s, _ := newServer()
	elected := make(chan struct{})
	s.Await(elected)
	w := post(s, "Bearer VirtualImage/team/debian/1", `{"transferredBytes":1}`)
	if _, known := s.Latest(debian); known || w.Code != http.StatusMisdirectedRequest || w.Header().Get("Connection") != "close" {
		t.Errorf("status %d, %v, known %t", w.Code, w.Header(), known)
	}
	if w := post(s, "Bearer forged", `{}`); w.Code != http.StatusUnauthorized {
		t.Errorf("a stranger gets %d", w.Code)
	}
	close(elected)
	w = post(s, "Bearer VirtualImage/team/debian/1", `{"transferredBytes":1}`)
	if _, known := s.Latest(debian); !known || w.Code != http.StatusNoContent {
		t.Errorf("status %d, known %t", w.Code, known)
	}
}

func TestLatestIsTheNewest(t *testing.T) {
	s, clock := newServer()
	if _, ok := s.Latest(debian); ok {
		t.Error("known before its first report")
	}
	for transferred := range 3 {
		body := fmt.Sprintf(`{"transferredBytes":%d,"totalBytes":10,"bytesPerSecond":5,"averageBytesPerSecond":4}`, transferred)
		if w := post(s, "Bearer VirtualImage/team/debian/1", body); w.Code != http.StatusNoContent {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		clock.SetTime(now.Add(time.Second))
	}
	latest, ok := s.Latest(debian)
	if !ok || latest.TransferredBytes != 2 || latest.TotalBytes != 10 || latest.BytesPerSecond != 5 || latest.AverageBytesPerSecond != 4 || !latest.At.Equal(now.Add(time.Second)) {
		t.Errorf("got %+v, %t", latest, ok)
	}
	for _, other := range []token.Subject{
		{Kind: "VirtualImage", Namespace: "team", Name: "debian", UID: "2"},
		{Kind: "VirtualDisk", Namespace: "team", Name: "debian", UID: "1"},
		{Kind: "VirtualImage", Namespace: "other", Name: "debian", UID: "1"},
	} {
		if _, ok := s.Latest(other); ok {
			t.Errorf("%s has another's progress", other)
		}
	}
	s.Forget(debian)
	if _, ok := s.Latest(debian); ok {
		t.Error("known after it was forgotten")
	}
}

func TestRefusals(t *testing.T) {
	const good = `{"transferredBytes":1}`
	for _, tc := range []struct {
		title, authorization, body string
		want                       int
	}{
		{"good", "Bearer VirtualImage/team/debian/1", good, 204},
		{"good, lower case", "bearer VirtualImage/team/debian/1", good, 204},
		{"cluster kind", "Bearer ClusterVirtualImage//debian/1", good, 204},
		{"fields of a later version", "Bearer VirtualImage/team/debian/1", `{"transferredBytes":1,"later":true}`, 204},
		{"no token", "", good, 401},
		{"forged token", "Bearer forged", good, 401},
		{"empty token", "Bearer ", good, 401},
		{"Basic", "Basic aW1wb3J0ZXI6Zm9yZ2Vk", good, 401},
		{"token of nobody's import", "Bearer virtualization-controller", good, 401},
		{"no body", "Bearer VirtualImage/team/debian/1", "", 400},
		{"no JSON", "Bearer VirtualImage/team/debian/1", "50%", 400},
		{"text for a number", "Bearer VirtualImage/team/debian/1", `{"transferredBytes":"1"}`, 400},
		{"negative number", "Bearer VirtualImage/team/debian/1", `{"transferredBytes":-1}`, 400},
		{"number beyond bounds", "Bearer VirtualImage/team/debian/1", `{"transferredBytes":1e30}`, 400},
		{"huge body", "Bearer VirtualImage/team/debian/1", `{"padding":"` + strings.Repeat("x", 1<<20) + `"}`, 400},
	} {
		t.Run(tc.title, func(t *testing.T) {
			s, _ := newServer()
			events := s.Events("VirtualImage")
			w := post(s, tc.authorization, tc.body)
			if w.Code != tc.want {
				t.Errorf("status %d, want %d", w.Code, tc.want)
			}
			if tc.want != 204 && (len(s.reports) != 0 || len(events) != 0) {
				t.Error("a refused report had an effect")
			}
			if challenged := w.Header().Get("WWW-Authenticate") != ""; challenged != (tc.want == 401) {
				t.Errorf("challenge: %t", challenged)
			}
		})
	}
}

func TestOnlyPosts(t *testing.T) {
	s, _ := newServer()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/reports", nil))
	if w.Code != http.StatusMethodNotAllowed || w.Header().Get("Allow") != "POST" {
		t.Errorf("status %d, %v", w.Code, w.Header())
	}
}

func TestEventsGoToTheirKind(t *testing.T) {
	s, _ := newServer()
	images, disks := s.Events("VirtualImage"), s.Events("VirtualDisk")
	post(s, "Bearer VirtualImage/team/debian/1", `{}`)
	post(s, "Bearer ClusterVirtualImage//debian/1", `{}`)
	if len(images) != 1 || len(disks) != 0 {
		t.Fatalf("%d events of images, %d of disks", len(images), len(disks))
	}
	got := (<-images).Object
	if got.GetNamespace() != "team" || got.GetName() != "debian" || got.GetUID() != "1" || got.GetObjectKind().GroupVersionKind().Kind != "VirtualImage" {
		t.Errorf("event about %+v", got)
	}
}

func TestEachReaderHearsOfEachPost(t *testing.T) {
	s, _ := newServer()
	first, second := s.Events("VirtualImage"), s.Events("VirtualImage")
	post(s, "Bearer VirtualImage/team/debian/1", `{}`)
	if len(first) != 1 || len(second) != 1 {
		t.Errorf("%d and %d events", len(first), len(second))
	}
}

func TestTheNewestCheckpointIsKept(t *testing.T) {
	const one, two = `{"order":"o","sequence":1,"offset":5}`, `{"order":"o","sequence":2,"offset":9}`
	s, _ := newServer()
	for _, step := range []struct{ title, body, want string }{
		{"none", `{"transferredBytes":1}`, ""},
		{"the first", `{"checkpoint":` + one + `,"attempts":2,"phase":"Waiting","retryAt":"2026-11-22T12:00:05Z"}`, one},
		{"a report without one", `{"transferredBytes":7}`, one},
		{"the second", `{"checkpoint":` + two + `}`, two},
		{"one that nobody could use", `{"checkpoint":{"offset":-1}}`, two},
	} {
		if w := post(s, "Bearer VirtualImage/team/debian/1", step.body); w.Code != http.StatusNoContent {
			t.Fatalf("%s: status %d: %s", step.title, w.Code, w.Body)
		}
		latest, _ := s.Latest(debian)
		if string(latest.Checkpoint) != step.want {
			t.Errorf("%s: %s", step.title, latest.Checkpoint)
		}
		if step.title == "the first" && (latest.Attempts != 2 || latest.Phase != "Waiting" || !latest.RetryAt.Equal(now.Add(5*time.Second))) {
			t.Errorf("report: %+v", latest)
		}
	}
	s.Forget(debian)
	post(s, "Bearer VirtualImage/team/debian/1", `{}`)
	if latest, _ := s.Latest(debian); latest.Checkpoint != nil {
		t.Errorf("a forgotten checkpoint came back: %s", latest.Checkpoint)
	}
}

func TestAFailureIsKeptUntilTheNextReport(t *testing.T) {
	s, _ := newServer()
	events := s.Events("VirtualImage")
	for _, step := range []struct {
		body         string
		reason       report.Reason
		message, url string
	}{
		{`{"failure":{"reason":"SourceUnreachable","message":"503","field":"spec.dataSource.http.url","permanent":false}}`, "SourceUnreachable", "503", "spec.dataSource.http.url"},
		{`{"failure":{"reason":"Internal","message":"` + strings.Repeat("x", 5000) + `"}}`, "Internal", strings.Repeat("x", 637) + "…", ""},
		{`{"transferredBytes":1}`, "", "", ""},
	} {
		if w := post(s, "Bearer VirtualImage/team/debian/1", step.body); w.Code != http.StatusNoContent {
			t.Fatalf("status %d: %s", w.Code, w.Body)
		}
		var got report.Failure
		if latest, _ := s.Latest(debian); latest.Failure != nil {
			got = *latest.Failure
		}
		if got != (report.Failure{Reason: step.reason, Message: step.message, Field: step.url}) {
			t.Errorf("failure: %+v", got)
		}
		if len(events) != 1 {
			t.Fatalf("%d events", len(events))
		}
		<-events
	}
}

// A controller that does not read, for example because another replica leads,
// must not block the importers.
func TestUnreadEventsAreDropped(t *testing.T) {
	s, _ := newServer()
	events := s.Events("VirtualImage")
	for range 1500 {
		if w := post(s, "Bearer VirtualImage/team/debian/1", `{}`); w.Code != http.StatusNoContent {
			t.Fatalf("status %d", w.Code)
		}
	}
	if len(events) != 1024 {
		t.Errorf("%d events wait", len(events))
	}
}

func TestOldReportsExpire(t *testing.T) {
	s, clock := newServer()
	post(s, "Bearer VirtualImage/team/debian/1", `{}`)
	clock.SetTime(now.Add(10 * time.Minute))
	if _, ok := s.Latest(debian); !ok {
		t.Error("forgotten after ten minutes")
	}
	clock.SetTime(now.Add(10*time.Minute + time.Second))
	if _, ok := s.Latest(debian); ok {
		t.Error("known after more than ten minutes")
	}
	post(s, "Bearer VirtualImage/team/other/1", `{}`)
	if len(s.reports) != 1 {
		t.Errorf("%d reports are kept", len(s.reports))
	}
}
