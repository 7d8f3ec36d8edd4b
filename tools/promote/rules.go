// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"golang.org/x/mod/semver"
)

// facts are all that a decision about a promotion depends on.
type facts struct {
	Version string
	// Channel is the index of the channel that the version is to come to.
	Channel int
	Now     time.Time
	// Released is the day of the release; zero where nobody wrote it down.
	Released time.Time
	// Changed tells whether there is a changelog of the version.
	Changed bool
	// Bundle and Release tell whether the registry has the version's images.
	Bundle, Release bool
	// Missing are the images that the bundle names and the registry lacks.
	Missing []string
	// Reported is the version in version.json of the release image.
	Reported string
	// Held is the version that each channel has now, by its tag; nothing where it has none.
	Held map[string]string
	// Updates are the jumps over versions that the module allows.
	Updates []update
}

// update is an entry of update.versions in module.yaml: from is the oldest version that may become to at once, both
// without the number of the patch.
type update struct {
	From string `json:"from"`
	To   string `json:"to"`
}

// versionFormat leaves no room for candidates: channels are for releases.
var versionFormat = regexp.MustCompile(`^v(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)\.(0|[1-9][0-9]*)$`)

// check lists all that stands against a promotion. Each entry says what to do.
func check(f facts) []string {
	if !versionFormat.MatchString(f.Version) {
		return []string{fmt.Sprintf("%q is no version of a release: write it like v1.2.3", f.Version)}
	}
	var problems []string
	complain := func(format string, values ...any) { problems = append(problems, fmt.Sprintf(format, values...)) }
	if !f.Changed {
		complain("there is no CHANGELOG/%s.yaml: write what is new for those who get the version", f.Version)
	}
	if !f.Bundle || !f.Release {
		complain("the registry has no bundle or no release image of %s: build and push them first", f.Version)
	} else if f.Reported != f.Version {
		complain("the release image of %s says that it is %q: build it again", f.Version, f.Reported)
	}
	if len(f.Missing) > 0 {
		complain("the registry lacks images that the bundle of %s names, %s: push them first", f.Version, strings.Join(f.Missing, ", "))
	}
	c := channels[f.Channel]
	if f.Channel > 0 {
		if before := channels[f.Channel-1]; f.Held[before.Tag] != f.Version {
			complain("%s holds %s: a version comes to %s from there, so promote it to %s first", before.Name, orNothing(f.Held[before.Tag]), c.Name, before.Name)
		}
	}
	switch earliest := c.earliest(f.Released); {
	case f.Released.IsZero():
		complain("CHANGELOG/releases.yaml does not say when %s was released: add it", f.Version)
	case f.Released.After(f.Now):
		complain("%s is said to be released on %s, which is still to come: correct CHANGELOG/releases.yaml", f.Version, day(f.Released))
	case f.Now.Before(earliest):
		complain("%s was released on %s and may come to %s on %s: wait", f.Version, day(f.Released), c.Name, day(earliest))
	}
	return append(problems, f.checkStep(c)...)
}

// checkStep compares a version with the one that the clusters of the channel have.
func (f facts) checkStep(c channel) []string {
	held := f.Held[c.Tag]
	switch {
	case held == "" || held == f.Version:
		return nil
	case !semver.IsValid(held):
		return []string{fmt.Sprintf("%s holds %q, which is no version: look at the registry", c.Name, held)}
	case semver.Compare(held, f.Version) > 0:
		return []string{fmt.Sprintf("%s holds %s, which is newer: clusters are not taken back", c.Name, held)}
	case follows(held, f.Version) || f.allowed(held):
		return nil
	}
	return []string{fmt.Sprintf("%s holds %s, and Deckhouse skips no minor version: promote those between, or allow the jump by update.versions in module.yaml",
		c.Name, held)}
}

// follows tells whether a version is a patch of another, or the next minor or major one.
func follows(from, to string) bool {
	fromMajor, fromMinor := numbers(from)
	toMajor, toMinor := numbers(to)
	switch toMajor - fromMajor {
	case 0:
		return toMinor-fromMinor <= 1
	case 1:
		return toMinor == 0
	}
	return false
}

// allowed tells whether module.yaml lets a version jump to the one that is promoted.
func (f facts) allowed(from string) bool {
	for _, jump := range f.Updates {
		if "v"+jump.To == semver.MajorMinor(f.Version) && semver.Compare("v"+jump.From, semver.MajorMinor(from)) <= 0 {
			return true
		}
	}
	return false
}

func numbers(version string) (major, minor int) {
	// Only valid versions come here.
	_, _ = fmt.Sscanf(semver.MajorMinor(version), "v%d.%d", &major, &minor)
	return major, minor
}

func orNothing(version string) string {
	if strings.TrimSpace(version) == "" {
		return "nothing"
	}
	return version
}

func day(t time.Time) string { return t.Format(time.DateOnly) }
