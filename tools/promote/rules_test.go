// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"
)

func date(text string) time.Time {
	parsed, err := time.Parse(time.DateOnly, text)
	if err != nil {
		panic(err)
	}
	return parsed
}

// ready is a version that may come to every channel: each change of a test takes one thing away.
func ready(channelName string) facts {
	index, err := findChannel(channelName)
	if err != nil {
		panic(err)
	}
	return facts{
		Version: "v1.2.3", Channel: index, Now: date("2026-03-31"), Released: date("2026-01-31"),
		Changed: true, Bundle: true, Release: true, Reported: "v1.2.3",
		Held: map[string]string{"alpha": "v1.2.3", "beta": "v1.2.3", "early-access": "v1.2.3", "stable": "v1.2.3"},
	}
}

func TestEveryChannelMayGetAVersion(t *testing.T) {
	for _, c := range channels {
		if problems := check(ready(c.Name)); len(problems) > 0 {
			t.Errorf("%s: %q", c.Name, problems)
		}
	}
}

// The days of the document: Early Access a week after the release, Stable two, Rock Solid a month.
func TestWaitingTimes(t *testing.T) {
	tests := []struct {
		channel, released, last, first string
	}{
		{channel: "Alpha", released: "2026-01-10", first: "2026-01-10"},
		{channel: "Beta", released: "2026-01-10", first: "2026-01-10"},
		{channel: "EarlyAccess", released: "2026-01-10", last: "2026-01-16", first: "2026-01-17"},
		{channel: "Stable", released: "2026-01-10", last: "2026-01-23", first: "2026-01-24"},
		{channel: "RockSolid", released: "2026-01-10", last: "2026-02-09", first: "2026-02-10"},
		{channel: "RockSolid", released: "2024-02-01", last: "2024-02-29", first: "2024-03-01"},
	}
	for _, test := range tests {
		t.Run(test.channel+" "+test.released, func(t *testing.T) {
			f := ready(test.channel)
			f.Released, f.Now = date(test.released), date(test.first)
			if problems := check(f); len(problems) > 0 {
				t.Errorf("refused on %s: %q", test.first, problems)
			}
			if test.last == "" {
				return
			}
			f.Now = date(test.last).Add(24*time.Hour - time.Second)
			problems := check(f)
			if want := "may come to " + test.channel + " on " + test.first + ": wait"; len(problems) != 1 || !strings.Contains(problems[0], want) {
				t.Errorf("at the end of %s: %q, want one that says %q", test.last, problems, want)
			}
		})
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name   string
		change func(*facts)
		want   string
	}{
		{"candidate", func(f *facts) { f.Version = "v1.2.3-rc.1" }, "no version of a release"},
		{"no v", func(f *facts) { f.Version = "1.2.3" }, "no version of a release"},
		{"zeros before", func(f *facts) { f.Version = "v1.02.3" }, "no version of a release"},
		{"no changelog", func(f *facts) { f.Changed = false }, "there is no CHANGELOG/v1.2.3.yaml"},
		{"no bundle", func(f *facts) { f.Bundle = false }, "no bundle or no release image"},
		{"no release image", func(f *facts) { f.Release = false }, "no bundle or no release image"},
		{"images that are not there", func(f *facts) { f.Missing = []string{"dvcr", "virtApi"} }, "names, dvcr, virtApi: push them first"},
		{"another version inside", func(f *facts) { f.Reported = "v1.2.2" }, `says that it is "v1.2.2"`},
		{"channel before has an older one", func(f *facts) { f.Held["early-access"] = "v1.2.2" }, "EarlyAccess holds v1.2.2: a version comes to Stable from there"},
		{"channel before has a newer one", func(f *facts) { f.Held["early-access"] = "v1.3.0" }, "EarlyAccess holds v1.3.0"},
		{"channel before is empty", func(f *facts) { delete(f.Held, "early-access") }, "EarlyAccess holds nothing"},
		{"day of the release unknown", func(f *facts) { f.Released = time.Time{} }, "does not say when v1.2.3 was released"},
		{"released tomorrow", func(f *facts) { f.Released = date("2026-04-01") }, "still to come"},
		{"newer in the channel", func(f *facts) { f.Held["stable"] = "v1.2.4" }, "clusters are not taken back"},
		{"a minor version skipped", func(f *facts) { f.Held["stable"] = "v1.0.9" }, "skips no minor version"},
		{"a major version skipped", func(f *facts) { f.Held["stable"] = "v0.9.0" }, "skips no minor version"},
		{"rubbish in the channel", func(f *facts) { f.Held["stable"] = "latest" }, "look at the registry"},
		{"jump for others", func(f *facts) {
			f.Held["stable"], f.Updates = "v1.0.9", []update{{From: "1.1", To: "1.2"}, {From: "0.9", To: "1.3"}}
		}, "skips no minor version"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := ready("Stable")
			f.Held["stable"] = "v1.2.2"
			test.change(&f)
			problems := check(f)
			if len(problems) != 1 || !strings.Contains(problems[0], test.want) {
				t.Errorf("problems = %q, want one that says %q", problems, test.want)
			}
		})
	}
}

func TestSteps(t *testing.T) {
	tests := []struct {
		name, held, version string
		updates             []update
		reported            int
	}{
		{name: "first version of the channel", version: "v1.2.3"},
		{name: "the same", held: "v1.2.3", version: "v1.2.3"},
		{name: "patch", held: "v1.2.1", version: "v1.2.3"},
		{name: "next minor version", held: "v1.1.9", version: "v1.2.3"},
		{name: "next major version", held: "v1.9.0", version: "v2.0.1"},
		{name: "beyond the next major version", held: "v1.9.0", version: "v2.1.0", reported: 1},
		{name: "allowed jump", held: "v1.0.9", version: "v1.2.3", updates: []update{{From: "1.0", To: "1.2"}}},
		{name: "allowed jump from before", held: "v1.0.9", version: "v1.2.3", updates: []update{{From: "0.8", To: "1.2"}}},
		{name: "ten comes after nine", held: "v1.9.0", version: "v1.10.0"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			f := ready("Alpha")
			f.Version, f.Reported, f.Held["alpha"], f.Updates = test.version, test.version, test.held, test.updates
			if problems := check(f); len(problems) != test.reported {
				t.Errorf("problems = %q, want %d", problems, test.reported)
			}
		})
	}
}

// Whoever has to put several things right learns of all of them at once.
func TestAllProblemsAreTold(t *testing.T) {
	if problems := check(facts{Version: "v1.2.3", Channel: 4, Now: date("2026-01-01")}); len(problems) != 4 {
		t.Errorf("problems = %q, want 4", problems)
	}
}

func TestChannelsAreFound(t *testing.T) {
	for name, want := range map[string]int{"Alpha": 0, "alpha": 0, "beta": 1, "EarlyAccess": 2, "early-access": 2, "stable": 3, "RockSolid": 4, "rock-solid": 4} {
		if got, err := findChannel(name); err != nil || got != want {
			t.Errorf("%s = %d, %v, want %d", name, got, err, want)
		}
	}
	if _, err := findChannel("Gamma"); err == nil || !strings.Contains(err.Error(), "Alpha, Beta, EarlyAccess, Stable, RockSolid") {
		t.Errorf("error = %v, want one that names the channels", err)
	}
}
