// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"k8s.io/utils/clock"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/dvcr/dvcrtest"
	"github.com/deckhouse/virtualization/internal/dvcr/token"
	"github.com/deckhouse/virtualization/internal/importer/progress"
	"github.com/deckhouse/virtualization/internal/importer/report"
	"github.com/deckhouse/virtualization/internal/importer/reportserver"
)

// An importer that goes on by itself tells at once what keeps it from going on.
func TestFailureIsPostedWhileTheImporterWaits(t *testing.T) {
	issuer, verifier := dvcrtest.Keys(t)
	subject := token.Subject{Kind: "VirtualImage", Namespace: "team", Name: "debian", UID: uid}
	signed, err := issuer.Issue(subject.String(), nil, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	reports := reportserver.New(verifier, clock.RealClock{})
	events := reports.Events("VirtualImage")
	server := httptest.NewServer(reports)
	t.Cleanup(server.Close)
	ticks := clocktesting.NewFakeClock(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))

	options := newOptions(t, dvcrtest.Start(t), func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	options.Retries, options.RetryDelay = 3, time.Hour
	options.Reporter = &progress.Reporter{
		URL: server.URL + reportserver.Path, Token: dvcr.StaticToken(signed), Client: server.Client(),
		Clock: ticks, Logger: slog.New(slog.NewTextHandler(io.Discard, nil)),
	}
	ctx, kill := context.WithCancel(context.Background())
	defer kill()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = Run(ctx, options)
	}()
	var latest reportserver.Report
	for deadline := time.Now().Add(10 * time.Second); latest.Failure == nil && time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		ticks.Step(2 * time.Second)
		select {
		case <-events:
			latest, _ = reports.Latest(subject)
		default:
		}
	}
	kill()
	<-ended
	failure := latest.Failure
	if failure == nil || latest.Phase != report.PhaseWaiting || latest.RetryAt == nil || latest.TransferredBytes != 0 {
		t.Fatalf("report: %+v", latest)
	}
	if failure.Reason != "SourceUnreachable" || failure.Field != "spec.dataSource.http.url" || failure.Permanent || !strings.Contains(failure.Message, "503") {
		t.Errorf("failure: %+v", failure)
	}
}

// A registry that is away for a moment is not worth a word, one that stays away is,
// until it answers.
func TestRegistryThatStaysAwayIsTold(t *testing.T) {
	fake := clocktesting.NewFakeClock(time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC))
	status := &progress.Status{}
	r := &run{Options: Options{
		Status: status, Clock: fake, RegistryPatience: time.Minute, Logger: slog.New(slog.DiscardHandler),
	}}
	told := func() report.Reason {
		if now, _ := status.Sample(); now.Failure != nil {
			return now.Failure.Reason
		}
		return ""
	}
	var seen []report.Reason
	ended := make(chan error, 1)
	go func() {
		ended <- r.patiently(context.Background(), func() error {
			if seen = append(seen, told()); len(seen) < 6 {
				return errors.New("502")
			}
			return nil
		})
	}()
	for {
		select {
		case err := <-ended:
			want := []report.Reason{"", "", "", "", "RegistryUnavailable", "RegistryUnavailable"}
			if err != nil || !slices.Equal(seen, want) || told() != "" {
				t.Errorf("%q, then %q, %v", seen, told(), err)
			}
			return
		default:
			if fake.HasWaiters() {
				fake.Step(5 * time.Second)
			}
			time.Sleep(time.Millisecond)
		}
	}
}
