// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package importer

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"time"

	"k8s.io/utils/clock"

	"github.com/deckhouse/virtualization/internal/dvcr"
	"github.com/deckhouse/virtualization/internal/importer/report"
)

const (
	// reportInterval is the least time between two posts.
	reportInterval = 2 * time.Second
	// heartbeat is how often the speed is posted while the percentage stays.
	heartbeat = 10 * time.Second
	// reportTimeout bounds one post.
	reportTimeout = 5 * time.Second
)

// Reporter posts an import's progress to the controller. Nothing it meets stops
// the import.
type Reporter struct {
	URL    string
	Token  dvcr.TokenSource
	Client *http.Client
	Clock  clock.WithTicker
	Logger *slog.Logger
}

// Start posts the progress of transferred out of total until the returned
// function is called.
func (r *Reporter) Start(ctx context.Context, transferred func() int64, total int64) (stop func()) {
	if r == nil || r.URL == "" {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.loop(ctx, transferred, total)
	}()
	return func() {
		cancel()
		<-done
	}
}

func (r *Reporter) loop(ctx context.Context, transferred func() int64, total int64) {
	ticker := r.Clock.NewTicker(reportInterval)
	defer ticker.Stop()
	meter := newMeter(r.Clock.Now(), total)
	r.post(ctx, meter.progress(r.Clock.Now(), 0))
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
		}
		now := r.Clock.Now()
		progress := meter.progress(now, transferred())
		if meter.worthPosting(now, progress) {
			r.post(ctx, progress)
		}
	}
}

// post sends one report. The token goes only to the URL that was given.
func (r *Reporter) post(ctx context.Context, progress report.Progress) {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	if err := r.send(ctx, progress); err != nil && ctx.Err() == nil {
		r.Logger.Debug("posting progress", "error", err)
	}
}

func (r *Reporter) send(ctx context.Context, progress report.Progress) error {
	signed, err := r.Token()
	if err != nil {
		return err
	}
	body, err := json.Marshal(progress)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+signed)
	response, err := r.Client.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, copyBuffer))
	if response.StatusCode/100 != 2 {
		return fmt.Errorf("the controller answers %d", response.StatusCode)
	}
	return nil
}

// meter turns byte counts into progress.
type meter struct {
	total    int64
	began    time.Time
	last     time.Time
	lastDone int64

	posted        time.Time
	postedPercent int
}

func newMeter(now time.Time, total int64) *meter {
	return &meter{total: max(total, 0), began: now, last: now, posted: now}
}

func (m *meter) progress(now time.Time, done int64) report.Progress {
	progress := report.Progress{
		TransferredBytes:      done,
		TotalBytes:            m.total,
		BytesPerSecond:        rate(done-m.lastDone, now.Sub(m.last)),
		AverageBytesPerSecond: rate(done, now.Sub(m.began)),
	}
	m.last, m.lastDone = now, done
	return progress
}

// worthPosting is true when the percentage has changed or the speed is old.
func (m *meter) worthPosting(now time.Time, progress report.Progress) bool {
	if progress.Percent() == m.postedPercent && now.Sub(m.posted) < heartbeat {
		return false
	}
	m.posted, m.postedPercent = now, progress.Percent()
	return true
}
