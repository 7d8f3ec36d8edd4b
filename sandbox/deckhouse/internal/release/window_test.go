// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package release

import (
	"testing"
	"time"
)

// at is a time of the week that begins on Monday, the 4th of May 2026.
func at(text string) time.Time {
	parsed, err := time.Parse("2006-01-02 15:04", "2026-05-"+text)
	if err != nil {
		panic(err)
	}
	return parsed
}

func TestNextOpening(t *testing.T) {
	night := Window{From: "01:00", To: "04:30"}
	weekend := Window{Days: []string{"Sat", "Sun"}, From: "8:00", To: "20:00"}
	for _, test := range []struct {
		name    string
		windows []Window
		now     time.Time
		want    time.Time
	}{
		{"no windows", nil, at("04 12:00"), at("04 12:00")},
		{"open", []Window{night}, at("04 03:00"), at("04 03:00")},
		{"opens now", []Window{night}, at("04 01:00"), at("04 01:00")},
		{"closes now", []Window{night}, at("04 04:30"), at("05 01:00")},
		{"later today", []Window{night}, at("04 00:59"), at("04 01:00")},
		{"tomorrow", []Window{night}, at("04 12:00"), at("05 01:00")},
		{"on another day", []Window{weekend}, at("04 12:00"), at("09 08:00")},
		{"on the same day of the next week", []Window{{Days: []string{"Mon"}, From: "08:00", To: "09:00"}}, at("04 09:00"), at("11 08:00")},
		{"the first of several", []Window{weekend, night}, at("08 12:00"), at("09 01:00")},
		{"one of several is open", []Window{night, weekend}, at("09 12:00"), at("09 12:00")},
		{"another time zone", []Window{night}, at("04 05:30").In(time.FixedZone("MSK", 3*60*60)).Add(-3 * time.Hour), at("04 02:30")},
		{"over midnight", []Window{{From: "23:00", To: "01:00"}}, at("04 23:30"), time.Time{}},
		{"no time", []Window{{From: "soon", To: "later"}}, at("04 12:00"), time.Time{}},
		{"no time to end", []Window{{From: "01:00", To: "later"}}, at("04 12:00"), time.Time{}},
	} {
		t.Run(test.name, func(t *testing.T) {
			if got := nextOpening(test.windows, test.now); !got.Equal(test.want) {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}
