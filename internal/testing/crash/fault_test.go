// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestFaults(t *testing.T) {
	writes := []string{"DELETE /z: 404", "POST /a: 201", "DELETE /b: 404", "PATCH /a: 404"}
	for every, want := range map[bool][]string{
		true:  {"killed before write 2", "killed after write 2", "killed before write 4", "killed after write 4", "stale caches", "repeated events"},
		false: {"killed before write 2", "killed after write 2", "killed after write 4", "stale caches", "repeated events"},
	} {
		var names []string
		for _, f := range faults(writes, every) {
			names = append(names, f.name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("every death %t: got %q", every, names)
		}
	}
}

// sink counts what reaches it.
type sink struct{ requests []string }

func (s *sink) RoundTrip(request *http.Request) (*http.Response, error) {
	s.requests = append(s.requests, request.Method+" "+request.URL.Path)
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("{}"))}, nil
}

func TestTheProgramDiesAtItsWrite(t *testing.T) {
	for name, tc := range map[string]struct {
		fault   fault
		reached []string
	}{
		"before":        {fault{at: 2}, []string{"POST /early", "POST /a", "GET /a"}},
		"after":         {fault{at: 2, reached: true}, []string{"POST /early", "POST /a", "GET /a", "POST /b"}},
		"lives through": {fault{at: 5}, []string{"POST /early", "POST /a", "GET /a", "POST /b", "GET /b", "POST /api/events"}},
	} {
		t.Run(name, func(t *testing.T) {
			g, s := newGate(tc.fault), &sink{}
			way := &transport{gate: g, next: s}
			send := func(method, path string) error {
				request, err := http.NewRequestWithContext(t.Context(), method, "https://example.org"+path, http.NoBody)
				if err != nil {
					t.Fatal(err)
				}
				response, err := way.RoundTrip(request)
				if err == nil {
					err = response.Body.Close()
				}
				return err
			}
			var errs []error
			errs = append(errs, send(http.MethodPost, "/early"))
			g.arm()
			for _, request := range [][2]string{{"POST", "/a"}, {"GET", "/a"}, {"POST", "/b"}, {"GET", "/b"}, {"POST", "/api/events"}} {
				errs = append(errs, send(request[0], request[1]))
			}
			if !slices.Equal(s.requests, tc.reached) {
				t.Errorf("reached the server: %q", s.requests)
			}
			dies := tc.fault.at <= 2
			if err := errors.Join(errs[:3]...); err != nil {
				t.Errorf("before its end: %v", err)
			}
			if dies != errors.Is(errs[3], errKilled) || (dies && errs[4] == nil) || dies != g.isClosed() {
				t.Errorf("it dies: %v", errs)
			}
			select {
			case <-g.killing:
				if !dies {
					t.Error("it was told to die")
				}
			case <-time.After(10 * time.Millisecond):
				if dies {
					t.Error("nobody was told that it dies")
				}
			}
		})
	}
}

func TestWritesElsewhereCount(t *testing.T) {
	g := newGate(fault{at: 2})
	g.arm()
	done := 0
	do := func() error { done++; return nil }
	if err := g.Write("delete image", do); err != nil {
		t.Error(err)
	}
	if err := g.Write("delete image", do); !errors.Is(err, errKilled) || done != 1 {
		t.Errorf("%v after %d writes", err, done)
	}
	if writes, _ := g.noted(); !slices.Equal(writes, []string{"delete image"}) {
		t.Errorf("noted %q", writes)
	}
}
