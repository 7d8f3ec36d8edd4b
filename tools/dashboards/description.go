// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"
)

// Sizes in Grafana's grid, which is 24 columns wide.
const (
	gridWidth    = 24
	panelWidth   = 8
	panelHeight  = 8
	numberWidth  = 4
	numberHeight = 4
)

// Kinds of panels.
const (
	kindGraph  = "timeseries"
	kindNumber = "stat"
	kindTable  = "table"
)

// description is what is written by hand of a dashboard.
type description struct {
	UID       string            `yaml:"uid"`
	Title     string            `yaml:"title"`
	Text      string            `yaml:"text"`
	Variables []variableWords   `yaml:"variables"`
	Rows      []rowWords        `yaml:"rows"`
	Links     map[string]string `yaml:"links"`
}

// variableWords is a choice at the top of the dashboard; Query is one of Grafana's, such as label_values().
type variableWords struct {
	Name  string `yaml:"name"`
	Label string `yaml:"label"`
	Query string `yaml:"query"`
}

type rowWords struct {
	Title  string       `yaml:"title"`
	Panels []panelWords `yaml:"panels"`
}

// panelWords is a panel. Kind is a graph unless said; Width and Height are those of the kind unless said.
type panelWords struct {
	Title   string        `yaml:"title"`
	Text    string        `yaml:"text"`
	Kind    string        `yaml:"kind"`
	Unit    string        `yaml:"unit"`
	Stacked bool          `yaml:"stacked"`
	Width   int           `yaml:"width"`
	Height  int           `yaml:"height"`
	Queries []queryWords  `yaml:"queries"`
	Columns []columnWords `yaml:"columns"`
	// Words stand for numbers that mean something: 0 is "no".
	Words map[string]string `yaml:"words"`
	// Bad is the number from which on a number is red.
	Bad *float64 `yaml:"bad"`
	// Shows takes the label with this name instead of the number.
	Shows string `yaml:"shows"`
}

type queryWords struct {
	Expr   string `yaml:"expr"`
	Legend string `yaml:"legend"`
}

// columnWords is a column of a table: Field is a label, Value, or Value #A and so on when there are several queries.
// Link names one of the dashboard's links.
type columnWords struct {
	Field string `yaml:"field"`
	Title string `yaml:"title"`
	Unit  string `yaml:"unit"`
	Link  string `yaml:"link"`
}

// dashboard lays the panels out, row by row, from left to right.
func (d description) dashboard() (dashboard, error) {
	made := newDashboard(d.UID, d.Title, strings.TrimSpace(d.Text))
	for _, words := range d.Variables {
		made.Templating.List = append(made.Templating.List, newChoice(words))
	}
	place := position{W: gridWidth, H: 1}
	id := 0
	for _, row := range d.Rows {
		id++
		made.Panels = append(made.Panels, panel{ID: id, Type: "row", Title: row.Title, Place: place})
		x, y, bottom := 0, place.Y+1, place.Y+1
		for _, words := range row.Panels {
			drawn, err := words.panel(d.Links)
			if err != nil {
				return dashboard{}, fmt.Errorf("panel %q of %q: %w", words.Title, row.Title, err)
			}
			if x+drawn.Place.W > gridWidth {
				x, y = 0, bottom
			}
			id++
			drawn.ID, drawn.Place.X, drawn.Place.Y = id, x, y
			x, bottom = x+drawn.Place.W, max(bottom, y+drawn.Place.H)
			made.Panels = append(made.Panels, drawn)
		}
		place.Y = bottom
	}
	return made, nil
}

// panel makes a panel that has no place yet. links are the addresses that its columns may lead to, by name.
func (w panelWords) panel(links map[string]string) (panel, error) {
	if w.Kind == "" {
		w.Kind = kindGraph
	}
	made := panel{Type: w.Kind, Title: w.Title, Text: strings.TrimSpace(w.Text), Source: prometheus}
	made.Place.W, made.Place.H = panelWidth, panelHeight
	made.Fields.Defaults = defaults{Unit: w.Unit, Mappings: mappings(w.Words)}
	switch w.Kind {
	case kindGraph:
		made.Fields.Defaults.Custom = newLines(w.Stacked)
		made.Options = graphOptions
	case kindNumber:
		made.Place.W, made.Place.H = numberWidth, numberHeight
		made.Fields.Defaults.Thresholds = newThresholds(w.Bad)
		made.Options = newNumberOptions(w.Shows)
	case kindTable:
		if len(w.Columns) == 0 {
			return panel{}, fmt.Errorf("a table has columns")
		}
		made.Place.W = gridWidth
		made.Options = tableOptions
		made.Transformations = newTransformations(w.Columns, len(w.Queries) > 1)
		overrides, err := newOverrides(w.Columns, links)
		if err != nil {
			return panel{}, err
		}
		made.Fields.Overrides = overrides
	default:
		return panel{}, fmt.Errorf("kind %q: want %s, %s or %s", w.Kind, kindGraph, kindNumber, kindTable)
	}
	if w.Width > 0 {
		made.Place.W = w.Width
	}
	if w.Height > 0 {
		made.Place.H = w.Height
	}
	if len(w.Queries) == 0 {
		return panel{}, fmt.Errorf("there is no query")
	}
	for i, query := range w.Queries {
		made.Targets = append(made.Targets, newTarget(i, w.Kind, query))
	}
	return made, nil
}
