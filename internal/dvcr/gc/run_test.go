// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/distribution/distribution/v3/registry/storage/driver/inmemory"
	"github.com/prometheus/client_golang/prometheus/testutil"
	clocktesting "k8s.io/utils/clock/testing"
)

const (
	blobPath  = "/docker/registry/v2/blobs/sha256/2c/2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824/data"
	blobKey   = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
	startedAt = "/docker/registry/v2/repositories/vi/team/debian/_uploads/1/startedat"
)

// running is a collector that runs on a fake clock.
type running struct {
	*Collector
	t     *testing.T
	clock *clocktesting.FakeClock
}

func run(t *testing.T, expression string) *running {
	t.Helper()
	schedule, err := ParseSchedule(expression)
	if err != nil {
		t.Fatal(err)
	}
	guard, clock := newGuard()
	r := &running{t: t, clock: clock, Collector: New(Options{Driver: inmemory.New(), Guard: guard, Clock: clock, Logger: slog.New(slog.DiscardHandler)})}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		r.Run(ctx, schedule)
		close(done)
	}()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	r.settle()
	return r
}

// settle waits until the collector waits for the clock.
func (r *running) settle() {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !r.clock.HasWaiters() || len(r.wake) > 0; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatal("the collector does not wait for anything")
		}
	}
}

func (r *running) step(by time.Duration) {
	r.t.Helper()
	r.settle()
	r.clock.Step(by)
	r.settle()
}

func (r *running) put(path string) {
	r.t.Helper()
	if err := r.storage.driver.PutContent(context.Background(), path, []byte("hello")); err != nil {
		r.t.Fatal(err)
	}
}

func (r *running) has(path string) bool {
	_, err := r.storage.driver.Stat(context.Background(), path)
	return err == nil
}

// waitGone is needed where a timer and a trigger race.
func (r *running) waitGone(path string) {
	r.t.Helper()
	for deadline := time.Now().Add(10 * time.Second); r.has(path); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			r.t.Fatalf("%s is still there", path)
		}
	}
}

func TestRunFollowsTheSchedule(t *testing.T) {
	r := run(t, "30 * * * *")
	r.put(blobPath)
	r.step(29 * time.Minute)
	if !r.has(blobPath) {
		t.Error("collected at 12:29")
	}
	r.step(time.Minute)
	r.waitGone(blobPath)
	r.put(blobPath)
	r.step(59 * time.Minute)
	if !r.has(blobPath) {
		t.Error("collected at 13:29")
	}
	r.step(time.Minute)
	r.waitGone(blobPath)
}

func TestRunFollowsADeletion(t *testing.T) {
	r := run(t, "")
	r.put(blobPath)
	r.step(100 * time.Hour)
	if !r.has(blobPath) {
		t.Error("collected although there is no schedule")
	}
	r.Trigger()
	r.Trigger()
	for deadline := time.Now().Add(10 * time.Second); r.has(blobPath) && time.Now().Before(deadline); {
		r.clock.Step(time.Second)
		time.Sleep(time.Millisecond)
	}
	if r.has(blobPath) {
		t.Error("not collected after a deletion")
	}
}

func TestRunComesBackWhenProtectionEnds(t *testing.T) {
	r := run(t, "@daily")
	r.put(blobPath)
	r.guard.note(context.Background(), blobKey)
	r.step(12 * time.Hour)
	r.waitGone(blobPath)

	r.put(blobPath)
	r.guard.note(context.Background(), blobKey)
	r.Trigger()
	for range 10 {
		r.step(time.Second)
	}
	if !r.has(blobPath) {
		t.Fatal("collected under a lease")
	}
	for range 60 {
		r.step(time.Minute)
	}
	r.waitGone(blobPath)
}

func TestRunPurgesUploads(t *testing.T) {
	r := run(t, "")
	// The driver stamps files with the real time.
	r.clock.SetTime(time.Now())
	r.put(startedAt)
	r.step(50 * time.Minute)
	if !r.has(startedAt) {
		t.Error("an upload is purged within the hour")
	}
	r.step(10 * time.Minute)
	r.step(10 * time.Minute)
	r.waitGone(startedAt)
}

func TestParseSchedule(t *testing.T) {
	for expression, want := range map[string]time.Time{
		"":            {},
		"0 * * * *":   now.Add(time.Hour),
		"0 2 * * *":   time.Date(2026, 11, 23, 2, 0, 0, 0, time.UTC),
		"@hourly":     now.Add(time.Hour),
		"*/5 * * * *": now.Add(5 * time.Minute),
	} {
		schedule, err := ParseSchedule(expression)
		if err != nil {
			t.Errorf("%q: %v", expression, err)
		} else if got := schedule.Next(now); !got.Equal(want) {
			t.Errorf("%q: %s", expression, got)
		}
	}
	for _, expression := range []string{"often", "* * * *", "61 * * * *", "0 0 0 * * *"} {
		if _, err := ParseSchedule(expression); err == nil || !strings.Contains(err.Error(), "five fields") {
			t.Errorf("%q: %v", expression, err)
		}
	}
}

func TestEarlier(t *testing.T) {
	later := now.Add(time.Second)
	for _, tc := range []struct{ a, b, want time.Time }{
		{now, later, now}, {later, now, now}, {time.Time{}, now, now}, {now, time.Time{}, now}, {time.Time{}, time.Time{}, time.Time{}},
	} {
		if got := earlier(tc.a, tc.b); !got.Equal(tc.want) {
			t.Errorf("%s, %s: %s", tc.a, tc.b, got)
		}
	}
}

func TestMetrics(t *testing.T) {
	guard, clock := newGuard()
	driver := inmemory.New()
	collector := New(Options{Driver: driver, Guard: guard, Clock: clock, Logger: slog.New(slog.DiscardHandler)})
	if err := driver.PutContent(context.Background(), blobPath, []byte("hello")); err != nil {
		t.Fatal(err)
	}
	freed, blobs, succeeded, failed := testutil.ToFloat64(freedBytes), testutil.ToFloat64(removedObjects.WithLabelValues("blob")),
		testutil.ToFloat64(runs.WithLabelValues("success")), testutil.ToFloat64(runs.WithLabelValues("failure"))
	if _, err := collector.Collect(context.Background()); err != nil {
		t.Fatal(err)
	}
	if got := testutil.ToFloat64(freedBytes) - freed; got != 5 {
		t.Errorf("freed %v", got)
	}
	if got := testutil.ToFloat64(removedObjects.WithLabelValues("blob")) - blobs; got != 1 {
		t.Errorf("blobs %v", got)
	}
	if got := testutil.ToFloat64(lastSuccess); got != float64(now.Unix()) {
		t.Errorf("last success %v", got)
	}
	clock.Step(time.Minute)
	if err := driver.PutContent(context.Background(), "/docker/registry/v2/repositories/a/_manifests/tags/1/current/link", []byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := collector.Collect(context.Background()); err == nil {
		t.Error("no error")
	}
	for title, got := range map[string]float64{
		"success": testutil.ToFloat64(runs.WithLabelValues("success")) - succeeded,
		"failure": testutil.ToFloat64(runs.WithLabelValues("failure")) - failed,
	} {
		if got != 1 {
			t.Errorf("%s: %v", title, got)
		}
	}
	if got := testutil.ToFloat64(lastSuccess); got != float64(now.Unix()) {
		t.Errorf("last success after a failure %v", got)
	}
}
