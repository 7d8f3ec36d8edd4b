// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

var start = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// The average is of the time in which bytes came: it stays while nobody sends.
func TestMeter(t *testing.T) {
	m := newMeter(start)
	for _, tc := range []struct {
		second int
		done   int64
		want   report.Progress
		posted bool
	}{
		{2, 0, report.Progress{TotalBytes: 1000}, false},
		{4, 9, report.Progress{TransferredBytes: 9, TotalBytes: 1000, BytesPerSecond: 4, AverageBytesPerSecond: 4}, false},
		{6, 10, report.Progress{TransferredBytes: 10, TotalBytes: 1000, BytesPerSecond: 0, AverageBytesPerSecond: 2}, true},
		{8, 19, report.Progress{TransferredBytes: 19, TotalBytes: 1000, BytesPerSecond: 4, AverageBytesPerSecond: 3}, false},
		{10, 219, report.Progress{TransferredBytes: 219, TotalBytes: 1000, BytesPerSecond: 100, AverageBytesPerSecond: 27}, true},
		{18, 219, report.Progress{TransferredBytes: 219, TotalBytes: 1000, BytesPerSecond: 0, AverageBytesPerSecond: 27}, false},
		{20, 219, report.Progress{TransferredBytes: 219, TotalBytes: 1000, BytesPerSecond: 0, AverageBytesPerSecond: 27}, true},
		{22, 219, report.Progress{TransferredBytes: 219, TotalBytes: 1000, BytesPerSecond: 0, AverageBytesPerSecond: 27}, false},
	} {
		now := start.Add(time.Duration(tc.second) * time.Second)
		got := report.Progress{TransferredBytes: tc.done, TotalBytes: 1000}
		m.measure(now, tc.done, &got)
		if !reflect.DeepEqual(got, tc.want) {
			t.Errorf("second %d: got %+v, want %+v", tc.second, got, tc.want)
		}
		if posted := m.worthPosting(now, got); posted != tc.posted {
			t.Errorf("second %d: posted %t", tc.second, posted)
		}
	}
}

// A failure is posted as soon as it is there, and until bytes move again.
func TestMeterTellsOfAFailureUntilBytesMove(t *testing.T) {
	m := newMeter(start)
	first, second := &report.Failure{Reason: "SourceUnreachable"}, &report.Failure{Reason: "RegistryUnavailable"}
	for _, tc := range []struct {
		second        int
		moved         int64
		failure, want *report.Failure
		posted        bool
	}{
		{2, 5, nil, nil, false},
		{4, 5, first, first, true},
		{6, 5, first, first, false},
		{8, 5, second, second, true},
		{10, 6, second, nil, true},
		{12, 6, second, nil, false},
		{14, 6, first, first, true},
		{16, 6, nil, nil, true},
	} {
		now := start.Add(time.Duration(tc.second) * time.Second)
		got := report.Progress{Failure: tc.failure}
		m.settle(tc.moved, &got)
		if posted := m.worthPosting(now, got); got.Failure != tc.want || posted != tc.posted {
			t.Errorf("second %d: %v, posted %t", tc.second, got.Failure, posted)
		}
	}
}

func TestMeterOfUnknownTotal(t *testing.T) {
	m := newMeter(start)
	got := report.Progress{TransferredBytes: 100}
	m.measure(start.Add(2*time.Second), 100, &got)
	if want := (report.Progress{TransferredBytes: 100, BytesPerSecond: 50, AverageBytesPerSecond: 50}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, want %+v", got, want)
	}
	if Rate(100, 0) != 0 || Rate(100, -time.Second) != 0 {
		t.Error("a rate over no time")
	}
}

// The real report server has to accept what the reporter sends.
func TestReporterPostsToTheReportServer(t *testing.T) {
	issuer, verifier := dvcrtest.Keys(t)
	subject := token.Subject{Kind: "VirtualImage", Namespace: "team", Name: "debian", UID: "0dfe9d4c-8a0c-4b3c-9a3a-1a8b6f3e6a11"}
	signed, err := issuer.Issue(subject.String(), nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	reports := reportserver.New(verifier, clock.RealClock{})
	server := httptest.NewServer(reports)
	t.Cleanup(server.Close)
	fake := clocktesting.NewFakeClock(start)
	reporter := &Reporter{
		URL: server.URL + reportserver.Path, Token: dvcr.StaticToken(signed), Client: server.Client(),
		Clock: fake, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	var transferred atomic.Int64
	stop := reporter.Start(context.Background(), transferred.Load, 1000)
	wait := func(want int64) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
			if latest, ok := reports.Latest(subject); ok && latest.TransferredBytes == want && latest.TotalBytes == 1000 {
				return
			}
		}
		latest, ok := reports.Latest(subject)
		t.Fatalf("got %+v, %t, want %d bytes", latest, ok, want)
	}
	wait(0)
	transferred.Store(500)
	fake.Step(2 * time.Second)
	wait(500)
	stop()
}

// A new checkpoint does not wait for the next report, but for a while after the last.
func TestReporterTellsOfCheckpointsAtOnce(t *testing.T) {
	posted, fails := make(chan report.Progress, 10), atomic.Bool{}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var progress report.Progress
		if err := json.NewDecoder(r.Body).Decode(&progress); err != nil {
			t.Error(err)
		}
		if fails.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		posted <- progress
	}))
	t.Cleanup(server.Close)
	fake := clocktesting.NewFakeClock(start)
	reporter := &Reporter{URL: server.URL, Token: dvcr.StaticToken("t"), Client: server.Client(), Clock: fake, Logger: slog.New(slog.DiscardHandler)}
	status, moved := &Status{}, atomic.Int64{}
	status.Begin("", moved.Load, 0, 1000)
	ctx, kill := context.WithCancel(t.Context())
	stop := reporter.Follow(ctx, status)
	expect := func(checkpoint string, transferred int64) {
		t.Helper()
		select {
		case got := <-posted:
			if string(got.Checkpoint) != checkpoint || got.TransferredBytes != transferred {
				t.Fatalf("got %s and %d bytes, want %s and %d", got.Checkpoint, got.TransferredBytes, checkpoint, transferred)
			}
		case <-time.After(30 * time.Second):
			t.Fatalf("%s is not told", checkpoint)
		}
	}
	expect("", 0)
	waits := func() {
		t.Helper()
		for deadline := time.Now().Add(30 * time.Second); fake.Waiters() < 2; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatal("it does not wait")
			}
		}
	}
	moved.Store(500)
	status.Checkpointed(json.RawMessage("1"))
	waits()
	status.Checkpointed(json.RawMessage("2"))
	fake.Step(250 * time.Millisecond)
	expect("2", 0)
	// One that did not arrive goes with the next report.
	fails.Store(true)
	status.Checkpointed(json.RawMessage("3"))
	waits()
	fake.Step(250 * time.Millisecond)
	expect("3", 0)
	fails.Store(false)
	fake.Step(1500 * time.Millisecond)
	expect("3", 500)
	// What an importer that is being stopped has not told is the last it tells.
	status.Checkpointed(json.RawMessage("4"))
	waits()
	kill()
	expect("4", 500)
	stop()
	if len(posted) != 0 {
		t.Errorf("%d posts more", len(posted))
	}
}

// A report goes on until it meets the replica that works, on a connection for each try.
func TestReporterFindsTheReplicaThatWorks(t *testing.T) {
	for _, tc := range []struct {
		misled int32
		posts  int32
		err    string
	}{
		{0, 1, ""},
		{3, 4, ""},
		{1000, 10, "the controller answers 421"},
	} {
		var posts, connections atomic.Int32
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if body, err := io.ReadAll(r.Body); err != nil || !strings.Contains(string(body), `"transferredBytes":7`) {
				t.Errorf("body %s, %v", body, err)
			}
			if posts.Add(1) <= tc.misled {
				w.Header().Set("Connection", "close")
				w.WriteHeader(http.StatusMisdirectedRequest)
			}
		}))
		server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				connections.Add(1)
			}
		}
		server.Start()
		t.Cleanup(server.Close)
		reporter := &Reporter{URL: server.URL, Token: dvcr.StaticToken("t"), Client: server.Client()}
		err := reporter.send(t.Context(), report.Progress{TransferredBytes: 7})
		if posts.Load() != tc.posts || connections.Load() != tc.posts || (err == nil) != (tc.err == "") || err != nil && err.Error() != tc.err {
			t.Errorf("after %d: %d posts over %d connections, %v", tc.misled, posts.Load(), connections.Load(), err)
		}
	}
}

// A controller that is away, refuses or hangs must not disturb the import.
func TestReporterBearsFailures(t *testing.T) {
	var posts atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		posts.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(server.Close)
	silent := slog.New(slog.NewTextHandler(io.Discard, nil))
	for title, reporter := range map[string]*Reporter{
		"none":    nil,
		"no URL":  {},
		"refuses": {URL: server.URL, Token: dvcr.StaticToken("t"), Client: server.Client(), Clock: clock.RealClock{}, Logger: silent},
		"away":    {URL: "http://127.0.0.1:1", Token: dvcr.StaticToken("t"), Client: server.Client(), Clock: clock.RealClock{}, Logger: silent},
		"no token": {URL: server.URL, Client: server.Client(), Clock: clock.RealClock{}, Logger: silent,
			Token: func() (string, error) { return "", errors.New("no token") }},
	} {
		stop := reporter.Start(context.Background(), func() int64 { return 1 }, 10)
		for deadline := time.Now().Add(10 * time.Second); title == "refuses" && posts.Load() == 0 && time.Now().Before(deadline); {
			time.Sleep(time.Millisecond)
		}
		stop()
	}
	if posts.Load() != 1 {
		t.Errorf("%d posts", posts.Load())
	}
}
