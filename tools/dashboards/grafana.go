// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// schemaVersion is that of Grafana 8, the oldest that Deckhouse may have; newer ones read it.
const schemaVersion = 30

// tag is how the dashboards of the module find each other.
const tag = "d8-virtualization"

// dashboard is what Grafana keeps of a dashboard.
type dashboard struct {
	UID           string         `json:"uid"`
	Title         string         `json:"title"`
	Text          string         `json:"description"`
	Tags          []string       `json:"tags"`
	SchemaVersion int            `json:"schemaVersion"`
	Timezone      string         `json:"timezone"`
	Refresh       string         `json:"refresh"`
	Tooltip       int            `json:"graphTooltip"`
	Time          map[string]any `json:"time"`
	Links         []any          `json:"links"`
	Templating    struct {
		List []any `json:"list"`
	} `json:"templating"`
	Panels []panel `json:"panels"`
}

type panel struct {
	ID              int         `json:"id"`
	Type            string      `json:"type"`
	Title           string      `json:"title"`
	Text            string      `json:"description,omitempty"`
	Place           position    `json:"gridPos"`
	Source          *datasource `json:"datasource,omitempty"`
	Targets         []target    `json:"targets,omitempty"`
	Fields          fields      `json:"fieldConfig"`
	Options         any         `json:"options,omitempty"`
	Transformations []any       `json:"transformations,omitempty"`
}

type position struct {
	X int `json:"x"`
	Y int `json:"y"`
	W int `json:"w"`
	H int `json:"h"`
}

type datasource struct {
	Type string `json:"type"`
	UID  string `json:"uid"`
}

// prometheus is the one that the reader has chosen.
var prometheus = &datasource{Type: "prometheus", UID: "${ds_prometheus}"}

type target struct {
	RefID   string      `json:"refId"`
	Source  *datasource `json:"datasource"`
	Expr    string      `json:"expr"`
	Legend  string      `json:"legendFormat,omitempty"`
	Format  string      `json:"format,omitempty"`
	Instant bool        `json:"instant,omitempty"`
	Range   bool        `json:"range,omitempty"`
}

type fields struct {
	Defaults  defaults `json:"defaults"`
	Overrides []any    `json:"overrides"`
}

type defaults struct {
	Unit       string `json:"unit,omitempty"`
	Custom     any    `json:"custom,omitempty"`
	Thresholds any    `json:"thresholds,omitempty"`
	Mappings   []any  `json:"mappings,omitempty"`
}

// object is a part of Grafana's format that has no name there either.
type object map[string]any

func newDashboard(uid, title, text string) dashboard {
	made := dashboard{
		UID: uid, Title: title, Text: text, Tags: []string{tag}, SchemaVersion: schemaVersion,
		Timezone: "browser", Refresh: "1m", Tooltip: 1,
		Time: map[string]any{"from": "now-3h", "to": "now"},
		Links: []any{object{
			"type": "dashboards", "title": "Virtualization", "tags": []string{tag}, "asDropdown": true, "includeVars": true, "keepTime": true,
		}},
	}
	made.Templating.List = []any{object{
		"type": "datasource", "name": "ds_prometheus", "label": "Prometheus", "query": "prometheus", "refresh": 1, "hide": 0,
	}}
	return made
}

// newChoice is a variable that Prometheus has the values of.
func newChoice(words variableWords) any {
	return object{
		"type": "query", "name": words.Name, "label": words.Label, "datasource": prometheus,
		"definition": words.Query, "query": object{"query": words.Query, "refId": words.Name},
		"refresh": 2, "sort": 1, "hide": 0, "multi": false, "includeAll": false,
	}
}

// newTarget is a query. What shows the present asks for that only.
func newTarget(index int, kind string, words queryWords) target {
	made := target{RefID: string(rune('A' + index)), Source: prometheus, Expr: strings.TrimSpace(words.Expr), Legend: words.Legend}
	switch kind {
	case kindTable:
		made.Format, made.Instant = "table", true
	case kindNumber:
		made.Instant = true
	default:
		made.Range = true
	}
	return made
}

func newLines(stacked bool) any {
	lines := object{"lineWidth": 1, "fillOpacity": 5, "showPoints": "never", "spanNulls": false}
	if stacked {
		lines["fillOpacity"], lines["stacking"] = 40, object{"mode": "normal", "group": "A"}
	}
	return lines
}

var graphOptions = object{
	"legend":  object{"displayMode": "table", "placement": "bottom", "calcs": []string{"lastNotNull", "max"}},
	"tooltip": object{"mode": "multi", "sort": "desc"},
}

var tableOptions = object{"showHeader": true}

// newNumberOptions shows the number, or a label in its place.
func newNumberOptions(label string) any {
	options := object{"colorMode": "value", "graphMode": "none", "textMode": "auto", "reduceOptions": object{"calcs": []string{"lastNotNull"}}}
	if label != "" {
		options["textMode"] = "name"
	}
	return options
}

func newThresholds(bad *float64) any {
	steps := []any{object{"color": "green", "value": nil}}
	if bad != nil {
		steps = append(steps, object{"color": "red", "value": *bad})
	}
	return object{"mode": "absolute", "steps": steps}
}

// mappings put words in the place of numbers.
func mappings(words map[string]string) []any {
	if len(words) == 0 {
		return nil
	}
	options := object{}
	for i, number := range slices.Sorted(maps.Keys(words)) {
		options[number] = object{"text": words[number], "index": i}
	}
	return []any{object{"type": "value", "options": options}}
}

// newTransformations bring the answers to all queries together by their labels, and put the columns in order.
func newTransformations(columns []columnWords, several bool) []any {
	names, order, titles := []string{}, object{}, object{}
	for i, column := range columns {
		names = append(names, column.Field)
		order[column.Field], titles[column.Field] = i, column.Title
	}
	made := []any{}
	if several {
		made = append(made, object{"id": "merge", "options": object{}})
	}
	return append(made,
		object{"id": "filterFieldsByName", "options": object{"include": object{"names": names}}},
		object{"id": "organize", "options": object{"indexByName": order, "renameByName": titles}},
	)
}

// newOverrides give columns their units and links.
func newOverrides(columns []columnWords, links map[string]string) ([]any, error) {
	made := []any{}
	for _, column := range columns {
		properties := []any{}
		if column.Unit != "" {
			properties = append(properties, object{"id": "unit", "value": column.Unit})
		}
		if column.Link != "" {
			address, there := links[column.Link]
			if !there {
				return nil, fmt.Errorf("column %q: there is no link %q", column.Title, column.Link)
			}
			properties = append(properties, object{"id": "links", "value": []any{object{"title": column.Link, "url": address}}})
		}
		if len(properties) > 0 {
			made = append(made, object{"matcher": object{"id": "byName", "options": column.Title}, "properties": properties})
		}
	}
	return made, nil
}
