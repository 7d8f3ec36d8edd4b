// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package gc

import (
	"context"
	"fmt"
	"time"

	"github.com/robfig/cron/v3"
)

const (
	// purgeInterval bounds for how long abandoned bytes hold space beyond their age.
	purgeInterval = 10 * time.Minute
	// gatherDelay lets deletions that come together be collected in one run.
	gatherDelay = 5 * time.Second
)

// ParseSchedule reads a cron expression of five fields, or one like @daily. An
// empty one means that only deletions start a collection.
func ParseSchedule(expression string) (cron.Schedule, error) {
	if expression == "" {
		return never{}, nil
	}
	schedule, err := cron.ParseStandard(expression)
	if err != nil {
		return nil, fmt.Errorf("schedule %q: %w; it has five fields, as in \"0 * * * *\"", expression, err)
	}
	return schedule, nil
}

// never is a schedule without any moment.
type never struct{}

// Next implements cron.Schedule.
func (never) Next(time.Time) time.Time { return time.Time{} }

// Trigger asks for a collection soon. It never blocks.
func (c *Collector) Trigger() {
	select {
	case c.wake <- struct{}{}:
	default: // One is asked for already.
	}
}

// Run collects by the schedule, after Trigger, and when what was protected no
// longer is, until the context ends.
func (c *Collector) Run(ctx context.Context, schedule cron.Schedule) {
	now := c.clock.Now()
	purge := now
	collect := schedule.Next(now)
	for {
		if now := c.clock.Now(); due(purge, now) {
			if _, err := c.PurgeUploads(ctx); err != nil {
				c.logger.Warn("removing abandoned uploads", "error", err)
			}
			purge = now.Add(purgeInterval)
		}
		if now := c.clock.Now(); due(collect, now) {
			collect = c.collectNow(ctx, schedule)
		}
		timer := c.clock.NewTimer(earlier(purge, collect).Sub(c.clock.Now()))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.wake:
			timer.Stop()
			collect = earlier(collect, c.clock.Now().Add(gatherDelay))
		case <-timer.C():
		}
	}
}

// collectNow runs a collection and returns when the next one is due.
func (c *Collector) collectNow(ctx context.Context, schedule cron.Schedule) time.Time {
	report, err := c.Collect(ctx)
	if err != nil {
		c.logger.Warn("collecting garbage", "error", err)
	}
	now := c.clock.Now()
	next := schedule.Next(now)
	if !report.Retry.IsZero() {
		// Not at the very moment: a pinned blob would keep this loop busy.
		retry := report.Retry
		if soonest := now.Add(gatherDelay); retry.Before(soonest) {
			retry = soonest
		}
		next = earlier(next, retry)
	}
	return next
}

func due(at, now time.Time) bool { return !at.IsZero() && !at.After(now) }

// earlier is the earlier of two moments; the zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || (!b.IsZero() && b.Before(a)) {
		return b
	}
	return a
}
