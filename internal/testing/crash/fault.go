// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crash

import (
	"errors"
	"flag"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// fault is what is done to one play.
type fault struct {
	// name is the play's.
	name string
	// at is the number of the write at which the program is killed, counted from 1; 0
	// leaves it alive.
	at int
	// reached tells that the write still reaches the server.
	reached bool
	// lag is how far caches are behind, times 1 to 3 for different kinds.
	lag time.Duration
	// copies is how often each event of a watch is sent in addition.
	copies int
}

// everyDeath asks for all deaths, which takes almost twice the time.
var everyDeath = flag.Bool("every-death", false, "kill the program before each write too, and not only before the first and after each")

// faults lists what a scenario with these writes has to stand. A deletion of what was
// not there has changed nothing: dying at it is dying at the write before. To the
// server, so is dying before any write but the first: these deaths are on demand.
func faults(writes []string, every bool) []fault {
	var out []fault
	for i, write := range writes {
		if strings.HasPrefix(write, http.MethodDelete) && strings.HasSuffix(write, ": 404") {
			continue
		}
		at := i + 1
		if every || len(out) == 0 {
			out = append(out, fault{name: fmt.Sprintf("killed before write %d", at), at: at})
		}
		out = append(out, fault{name: fmt.Sprintf("killed after write %d", at), at: at, reached: true})
	}
	return append(out, fault{name: "stale caches", lag: 100 * time.Millisecond}, fault{name: "repeated events", copies: 1})
}

var errKilled = errors.New("the program was killed here")

// Outside carries out what a program does outside of the API server, such as deleting
// an image from the registry. It counts as a write.
type Outside interface {
	Write(name string, do func() error) error
}

// gate is the program's only way to the outside. It counts what goes out and closes
// for good when the program is killed; each life has one of its own.
type gate struct {
	mu     sync.Mutex
	fault  fault
	writes []string
	last   time.Time
	// unarmed is how many writes came before the fault was armed; -1 while it is not.
	unarmed int
	begun   int
	closed  bool
	killing chan struct{}
}

func newGate(f fault) *gate { return &gate{fault: f, unarmed: -1, killing: make(chan struct{})} }

// arm lets the writes from now on count.
func (g *gate) arm() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.unarmed = len(g.writes)
}

// pass lets a write through, or kills the program before or after it. Writes that are
// under way in other goroutines then still come to their end, as a program's last
// packets may. The write tells what is to be noted of it.
func (g *gate) pass(write func() (string, error)) error {
	dies, err := g.enter()
	if err != nil {
		return err
	}
	if dies && !g.fault.reached {
		close(g.killing)
		return errKilled
	}
	note, err := write()
	g.mu.Lock()
	g.writes, g.last = append(g.writes, note), time.Now()
	g.mu.Unlock()
	if dies {
		close(g.killing)
		return errKilled
	}
	return err
}

// enter counts a write and tells whether it is the program's last.
func (g *gate) enter() (dies bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.closed {
		return false, errKilled
	}
	if g.unarmed < 0 {
		return false, nil
	}
	g.begun++
	g.closed = g.begun == g.fault.at
	return g.closed, nil
}

// Write implements Outside.
func (g *gate) Write(name string, do func() error) error {
	return g.pass(func() (string, error) { return name, do() })
}

// noted lists the writes so far, and when the last one was.
func (g *gate) noted() ([]string, time.Time) {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clone(g.writes), g.last
}

func (g *gate) isClosed() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed
}

// isWrite leaves out events, which are told and not kept, and questions.
func isWrite(request *http.Request) bool {
	if request.Method == http.MethodGet || strings.Contains(request.URL.Path, "/events") {
		return false
	}
	return !strings.Contains(request.URL.Path, "/subjectaccessreviews") && !strings.Contains(request.URL.Path, "/tokenreviews")
}

// transport is the HTTP side of a gate.
type transport struct {
	gate *gate
	view view
	next http.RoundTripper
}

// RoundTrip implements http.RoundTripper.
func (t *transport) RoundTrip(request *http.Request) (*http.Response, error) {
	if !isWrite(request) {
		if t.gate.isClosed() {
			return nil, errKilled
		}
		response, err := t.next.RoundTrip(request)
		if err != nil || request.Method != http.MethodGet {
			return response, err
		}
		return t.view.filter(request, response)
	}
	var response *http.Response
	err := t.gate.pass(func() (string, error) {
		var err error
		response, err = t.next.RoundTrip(request) //nolint:bodyclose // It is closed below, or the caller closes it.
		if err != nil {
			return request.Method + " " + request.URL.Path + ": " + err.Error(), err
		}
		return fmt.Sprintf("%s %s: %d", request.Method, request.URL.Path, response.StatusCode), nil
	})
	if err != nil && response != nil {
		// The answer came, but there is nobody to hear it.
		return nil, errors.Join(err, response.Body.Close())
	}
	return response, err
}
