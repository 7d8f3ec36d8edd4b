// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
	"time"
)

// channel is one of Deckhouse's release channels.
type channel struct {
	// Name is how a ModuleUpdatePolicy spells it, Tag how the registry does.
	Name, Tag string
	// Days and Months after the release of a version it may come here.
	Days, Months int
}

// channels, from the one that gets a version first to the one that gets it last.
var channels = []channel{
	{Name: "Alpha", Tag: "alpha"},
	{Name: "Beta", Tag: "beta"},
	{Name: "EarlyAccess", Tag: "early-access", Days: 7},
	{Name: "Stable", Tag: "stable", Days: 14},
	{Name: "RockSolid", Tag: "rock-solid", Months: 1},
}

// earliest is when a version released on a day may come to the channel.
func (c channel) earliest(released time.Time) time.Time { return released.AddDate(0, c.Months, c.Days) }

// findChannel takes the names of both spellings.
func findChannel(name string) (int, error) {
	var known []string
	for i, c := range channels {
		if strings.EqualFold(name, c.Name) || name == c.Tag {
			return i, nil
		}
		known = append(known, c.Name)
	}
	return 0, fmt.Errorf("there is no channel %q; there are %s", name, strings.Join(known, ", "))
}
