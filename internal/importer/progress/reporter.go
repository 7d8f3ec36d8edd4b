// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package progress

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
	// checkpointInterval is the least time from a post to one that only brings a new
	// checkpoint. What was stored since is what a killed importer costs.
	checkpointInterval = 250 * time.Millisecond
	// heartbeat is how often the speed is posted while the percentage stays.
	heartbeat = 10 * time.Second
	// reportTimeout bounds one post.
	reportTimeout = 5 * time.Second
	// replicaTries is how often a report is sent again because the replica that got it is
	// not the one that works. Each connection leads to any of them.
	replicaTries = 10
	// maxAnswer is more than the controller has to say.
	maxAnswer = 64 << 10
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
	status := &Status{}
	status.Begin("", transferred, 0, total)
	return r.Follow(ctx, status)
}

// Sampled is what a Reporter can follow.
type Sampled interface {
	// Sample returns the progress without speeds, and how many bytes were moved.
	Sample() (report.Progress, int64)
	// News gets something after each new checkpoint.
	News() <-chan struct{}
}

// Follow posts the status until the returned function is called.
func (r *Reporter) Follow(ctx context.Context, status Sampled) (stop func()) {
	if r == nil || r.URL == "" {
		return func() {}
	}
	following, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f := &follower{Reporter: r, status: status, meter: newMeter(r.Clock.Now())}
		f.loop(following)
		if ctx.Err() != nil {
			// Whoever takes over begins with the newest of what was not told yet.
			f.tellCheckpoint(context.WithoutCancel(ctx))
		}
	}()
	return func() {
		cancel()
		<-done
	}
}

// follower is a Reporter at work.
type follower struct {
	*Reporter
	status Sampled
	meter  *meter
	// at is when something was posted last.
	at time.Time
}

func (f *follower) loop(ctx context.Context) {
	ticker := f.Clock.NewTicker(reportInterval)
	defer ticker.Stop()
	news := f.status.News()
	f.tell(ctx, true)
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C():
			f.tell(ctx, false)
		case <-news:
			if !f.pause(ctx, checkpointInterval-f.Clock.Since(f.at)) {
				return
			}
			f.tellCheckpoint(ctx)
		}
	}
}

// pause is false if the context ended first.
func (f *follower) pause(ctx context.Context, wait time.Duration) bool {
	if wait <= 0 {
		return true
	}
	select {
	case <-ctx.Done():
		return false
	case <-f.Clock.After(wait):
		return true
	}
}

// tell posts how far the import is, if that is worth it.
func (f *follower) tell(ctx context.Context, first bool) {
	now := f.Clock.Now()
	progress, moved := f.status.Sample()
	f.meter.measure(now, moved, &progress)
	f.meter.settle(moved, &progress)
	if f.meter.worthPosting(now, progress) || first {
		f.meter.previous = progress
		f.post(ctx)
	}
}

// tellCheckpoint posts a new checkpoint with the numbers of before: others would make
// the controller write a status that hardly differs.
func (f *follower) tellCheckpoint(ctx context.Context) {
	progress, _ := f.status.Sample()
	if bytes.Equal(progress.Checkpoint, f.meter.previous.Checkpoint) {
		return
	}
	f.meter.previous.Checkpoint = progress.Checkpoint
	f.post(ctx)
}

// post sends one report. A checkpoint that did not arrive goes with the next one.
func (f *follower) post(ctx context.Context) {
	bounded, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	err := f.send(bounded, f.meter.previous)
	f.at = f.Clock.Now()
	if err == nil {
		return
	}
	f.meter.previous.Checkpoint = nil
	if ctx.Err() == nil {
		f.Logger.Debug("posting progress", "error", err)
	}
}

// send brings a report to the replica of the controller that works.
func (r *Reporter) send(ctx context.Context, progress report.Progress) error {
	signed, err := r.Token()
	if err != nil {
		return err
	}
	body, err := json.Marshal(progress)
	if err != nil {
		return err
	}
	status := http.StatusMisdirectedRequest
	for try := 0; try < replicaTries && status == http.StatusMisdirectedRequest; try++ {
		if status, err = r.request(ctx, signed, body); err != nil {
			return err
		}
	}
	if status/100 != 2 {
		return fmt.Errorf("the controller answers %d", status)
	}
	return nil
}

// request sends a report once. The token goes only to the URL that was given.
func (r *Reporter) request(ctx context.Context, signed string, body []byte) (status int, err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, r.URL, bytes.NewReader(body))
	if err != nil {
		return 0, err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+signed)
	response, err := r.Client.Do(request)
	if err != nil {
		return 0, err
	}
	defer response.Body.Close()
	_, _ = io.Copy(io.Discard, io.LimitReader(response.Body, maxAnswer))
	return response.StatusCode, nil
}

// meter turns byte counts into speeds and knows what was posted last.
type meter struct {
	// active is for how long bytes have moved: the average is of that time only, so
	// that it stays as it is while nobody sends.
	active    time.Duration
	last      time.Time
	lastMoved int64

	posted   time.Time
	previous report.Progress

	// failure is the last one that was seen, when failedAt bytes had been moved.
	failure  *report.Failure
	failedAt int64
}

func newMeter(now time.Time) *meter { return &meter{last: now, posted: now} }

func (m *meter) measure(now time.Time, moved int64, progress *report.Progress) {
	progress.BytesPerSecond = Rate(moved-m.lastMoved, now.Sub(m.last))
	if moved != m.lastMoved {
		m.active += now.Sub(m.last)
	}
	progress.AverageBytesPerSecond = Rate(moved, m.active)
	m.last, m.lastMoved = now, moved
}

// settle takes a failure back as soon as more bytes have been moved than when it was
// seen first: the attempt that follows does better.
func (m *meter) settle(moved int64, progress *report.Progress) {
	if progress.Failure != m.failure {
		m.failure, m.failedAt = progress.Failure, moved
	}
	if moved > m.failedAt {
		progress.Failure = nil
	}
}

// worthPosting is true when something else than the bytes has changed, when the
// percentage has, or when the speed is old.
func (m *meter) worthPosting(now time.Time, progress report.Progress) bool {
	before := m.previous
	same := progress.Percent() == before.Percent() && progress.Phase == before.Phase && progress.Attempts == before.Attempts &&
		progress.RetryAt == before.RetryAt && progress.Failure == before.Failure && bytes.Equal(progress.Checkpoint, before.Checkpoint)
	if same && now.Sub(m.posted) < heartbeat {
		return false
	}
	m.posted, m.previous = now, progress
	return true
}

// Rate is a speed in bytes per second.
func Rate(bytes int64, took time.Duration) int64 {
	if took <= 0 {
		return 0
	}
	return int64(float64(bytes) / took.Seconds())
}
