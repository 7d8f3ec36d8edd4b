// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package progress

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/deckhouse/virtualization/internal/importer/report"
)

func TestCheckpointsGoFromImporterToImporter(t *testing.T) {
	dir, other := t.TempDir(), filepath.Join(t.TempDir(), "checkpoint")
	silent := slog.New(slog.DiscardHandler)
	status := &Status{}
	first, resume := Load("order", dir, other, status, silent)
	if resume != nil {
		t.Fatalf("a checkpoint out of nothing: %+v", resume)
	}
	first.Save(report.Checkpoint{Offset: 10})
	first.Attempt()
	first.Save(report.Checkpoint{Offset: 20, Validator: "v"})
	progress, _ := status.Sample()
	if progress.Attempts != 2 || !strings.Contains(string(progress.Checkpoint), `"offset":20`) {
		t.Errorf("status %+v", progress)
	}
	// The Secret has the older one, as the controller writes now and then only.
	if err := os.WriteFile(other, []byte(`{"order":"order","sequence":1,"offset":10,"attempts":1}`), 0o600); err != nil {
		t.Fatal(err)
	}
	_, resume = Load("order", dir, other, status, silent)
	if resume == nil || resume.Offset != 20 || resume.Validator != "v" || resume.Sequence != 2 {
		t.Errorf("got %+v", resume)
	}
	if progress, _ := status.Sample(); progress.Attempts != 3 {
		t.Errorf("%d attempts", progress.Attempts)
	}
	// On another node there is the Secret only.
	status = &Status{}
	second, resume := Load("order", t.TempDir(), other, status, silent)
	if resume == nil || resume.Offset != 10 {
		t.Errorf("got %+v", resume)
	}
	// A controller that was started since learns of it before there is another one.
	if progress, _ := status.Sample(); !strings.Contains(string(progress.Checkpoint), `"sequence":1,"offset":10`) {
		t.Errorf("checkpoint %s", progress.Checkpoint)
	}
	second.Save(report.Checkpoint{Offset: 5})
	if progress, _ := status.Sample(); !strings.Contains(string(progress.Checkpoint), `"sequence":2`) {
		t.Errorf("checkpoint %s", progress.Checkpoint)
	}
	if _, resume := Load("another order", dir, other, nil, silent); resume != nil {
		t.Errorf("another order's %+v", resume)
	}
}

func TestCheckpointThatCannotBeKept(t *testing.T) {
	var log bytes.Buffer
	c, _ := Load("order", filepath.Join(t.TempDir(), "no", "such", "directory"), "", &Status{}, slog.New(slog.NewTextHandler(&log, nil)))
	c.Save(report.Checkpoint{Offset: 1})
	c.Save(report.Checkpoint{Sink: strings.Repeat("x", 10_000)})
	if strings.Count(log.String(), "is not kept") != 2 {
		t.Errorf("log: %s", &log)
	}
}

func TestStatus(t *testing.T) {
	var none *Status
	none.Begin("x", nil, 0, 0)
	none.Phase("x")
	none.Waiting(time.Now())
	none.Attempt(1)
	none.Checkpointed(nil)
	none.Failed(&report.Failure{})
	none.Recovered()

	s := &Status{}
	done := int64(100)
	s.Begin(report.PhaseTransferring, func() int64 { return done }, 100, 1000)
	done = 300
	progress, moved := s.Sample()
	if moved != 200 || progress.TransferredBytes != 300 || progress.TotalBytes != 1000 || progress.Phase != "Transferring" {
		t.Errorf("%d moved, %+v", moved, progress)
	}
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.FixedZone("x", 3600))
	s.Waiting(at)
	if progress, _ := s.Sample(); progress.Phase != "Waiting" || !progress.RetryAt.Equal(at) || progress.RetryAt.Location() != time.UTC {
		t.Errorf("%+v", progress)
	}
	failure := report.Failure{Reason: "SourceUnreachable", Message: strings.Repeat("x", 10_000)}
	s.Failed(nil)
	s.Failed(&failure)
	if progress, _ := s.Sample(); progress.Failure.Reason != "SourceUnreachable" || len(progress.Failure.Message) != 640 || len(failure.Message) != 10_000 {
		t.Errorf("failure: %+v", progress.Failure)
	}
	s.Recovered()
	if progress, _ := s.Sample(); progress.Failure != nil {
		t.Errorf("failure: %+v", progress.Failure)
	}
	// What was done before counts for the speed, not for what is done.
	s.Begin(report.PhaseTransferring, func() int64 { return 256 }, 256, 1000)
	progress, moved = s.Sample()
	if moved != 200 || progress.TransferredBytes != 256 || progress.RetryAt != nil {
		t.Errorf("%d moved, %+v", moved, progress)
	}
}
