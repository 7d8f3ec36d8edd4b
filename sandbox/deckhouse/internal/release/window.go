// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"slices"
	"time"
)

const (
	// clockLayout is how a policy writes a time of the day, always in UTC.
	clockLayout = "15:04"
	// openingLayout tells people when the next window opens.
	openingLayout = "Mon 2006-01-02 15:04 MST"
	daysOfWeek    = 7
)

// Window is a time of the week in which versions may be installed. It ends on the day on which it begins.
type Window struct {
	// Days are written like Mon; none stands for every day.
	Days []string `json:"days"`
	From string   `json:"from"`
	To   string   `json:"to"`
}

// on returns when the window opens and closes on a day, and whether it does.
func (w Window) on(day time.Time) (opens, closes time.Time, found bool) {
	if len(w.Days) > 0 && !slices.Contains(w.Days, day.Format("Mon")) {
		return opens, closes, false
	}
	from, err := time.Parse(clockLayout, w.From)
	if err != nil {
		return opens, closes, false
	}
	to, err := time.Parse(clockLayout, w.To)
	if err != nil {
		return opens, closes, false
	}
	at := func(clock time.Time) time.Time {
		return time.Date(day.Year(), day.Month(), day.Day(), clock.Hour(), clock.Minute(), 0, 0, time.UTC)
	}
	return at(from), at(to), from.Before(to)
}

// nextOpening is when versions may be installed next: the time given, if that is now, which it always is without windows.
// The zero time stands for windows that never open.
func nextOpening(windows []Window, now time.Time) time.Time {
	now = now.UTC()
	if len(windows) == 0 {
		return now
	}
	var next time.Time
	for _, window := range windows {
		for day := range daysOfWeek + 1 {
			opens, closes, found := window.on(now.AddDate(0, 0, day))
			switch {
			case !found || !now.Before(closes):
				continue
			case !now.Before(opens):
				return now
			case next.IsZero() || opens.Before(next):
				next = opens
			}
		}
	}
	return next
}
