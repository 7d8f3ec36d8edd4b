// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// grafanaDashboard is what the tests read of a dashboard.
type grafanaDashboard struct {
	UID        string `json:"uid"`
	Title      string `json:"title"`
	Templating struct {
		List []struct {
			Name       string `json:"name"`
			Type       string `json:"type"`
			Definition string `json:"definition"`
		} `json:"list"`
	} `json:"templating"`
	Panels []grafanaPanel `json:"panels"`
}

type grafanaPanel struct {
	ID      int    `json:"id"`
	Type    string `json:"type"`
	Title   string `json:"title"`
	GridPos struct {
		X, Y, W, H int
	} `json:"gridPos"`
	Targets []struct {
		Expr       string `json:"expr"`
		Legend     string `json:"legendFormat"`
		Datasource struct {
			UID string `json:"uid"`
		} `json:"datasource"`
	} `json:"targets"`
}

var labelValues = regexp.MustCompile(`^label_values\((.+), \w+\)$`)

// expressions are those of all panels, and those that the choices at the top come from.
func (d grafanaDashboard) expressions() []string {
	var all []string
	for _, choice := range d.Templating.List {
		if match := labelValues.FindStringSubmatch(choice.Definition); match != nil {
			all = append(all, match[1])
		}
	}
	for _, panel := range d.Panels {
		for _, target := range panel.Targets {
			all = append(all, target.Expr)
		}
	}
	return all
}

// dashboards decodes every dashboard that was rendered, by the name of its object.
func dashboards(t *testing.T, objects []Object) map[string]grafanaDashboard {
	t.Helper()
	found := map[string]grafanaDashboard{}
	for _, object := range objects {
		if object.GetKind() != "GrafanaDashboardDefinition" {
			continue
		}
		var definition struct {
			Spec struct{ Folder, Definition string }
		}
		convert(t, object, &definition)
		if definition.Spec.Folder != "Main" {
			t.Errorf("%s is in the folder %q", object.GetName(), definition.Spec.Folder)
		}
		var decoded grafanaDashboard
		if err := json.Unmarshal([]byte(definition.Spec.Definition), &decoded); err != nil {
			t.Fatalf("%s: %v", object.GetName(), err)
		}
		found[object.GetName()] = decoded
	}
	return found
}

func TestDashboards(t *testing.T) {
	want := map[string]struct {
		uid       string
		variables []string
	}{
		"d8-virtualization-main-cluster":   {uid: "d8-virtualization-cluster", variables: []string{"ds_prometheus"}},
		"d8-virtualization-main-namespace": {uid: "d8-virtualization-namespace", variables: []string{"ds_prometheus", "namespace"}},
		"d8-virtualization-main-machine":   {uid: "d8-virtualization-machine", variables: []string{"ds_prometheus", "namespace", "machine"}},
	}
	found := dashboards(t, render(t, Case{}))
	if got := slices.Sorted(maps.Keys(found)); !slices.Equal(got, slices.Sorted(maps.Keys(want))) {
		t.Fatalf("dashboards %v", got)
	}
	for name, shown := range found {
		var variables []string
		for _, variable := range shown.Templating.List {
			variables = append(variables, variable.Name)
			if variable.Type == "query" && !labelValues.MatchString(variable.Definition) {
				t.Errorf("%s: the values of %s come from %q", name, variable.Name, variable.Definition)
			}
		}
		if shown.UID != want[name].uid || !slices.Equal(variables, want[name].variables) || !strings.HasPrefix(shown.Title, "Virtualization: ") {
			t.Errorf("%s: uid %s, title %q, variables %v", name, shown.UID, shown.Title, variables)
		}
	}
}

// Every query of every panel can be read, and asks for what there is.
func TestDashboardsAskForMetricsThatExist(t *testing.T) {
	known := knownMetrics(t)
	for name, shown := range dashboards(t, render(t, Case{})) {
		expressions := shown.expressions()
		if len(expressions) < 20 {
			t.Errorf("%s: only %d expressions were found", name, len(expressions))
		}
		for _, expr := range expressions {
			for _, problem := range known.problems(expr) {
				t.Errorf("%s: %s", name, problem)
			}
		}
	}
}

// Series that were counted once for each replica, and again under another name when the leader changes, would mislead.
func TestDashboardsAggregate(t *testing.T) {
	aggregates := regexp.MustCompile(`\b(sum|max|min|avg|count|histogram_quantile)\b`)
	for name, shown := range dashboards(t, render(t, Case{})) {
		for _, panel := range shown.Panels {
			for _, target := range panel.Targets {
				if !aggregates.MatchString(target.Expr) {
					t.Errorf("%s, %s: labels of the replica are left in %s", name, panel.Title, target.Expr)
				}
				if target.Datasource.UID != "${ds_prometheus}" {
					t.Errorf("%s, %s: the data source is %q, not the one that was chosen", name, panel.Title, target.Datasource.UID)
				}
				for _, label := range regexp.MustCompile(`{{(\w+)}}`).FindAllStringSubmatch(target.Legend, -1) {
					if !regexp.MustCompile(`by \([^)]*\b` + label[1] + `\b`).MatchString(target.Expr) {
						t.Errorf("%s, %s: the legend shows %s, which the expression leaves out", name, panel.Title, label[1])
					}
				}
			}
		}
	}
}

func TestPanelsHaveAPlaceOfTheirOwn(t *testing.T) {
	for name, shown := range dashboards(t, render(t, Case{})) {
		ids, taken := map[int]bool{}, map[[2]int]string{}
		for _, panel := range shown.Panels {
			if ids[panel.ID] || panel.Title == "" {
				t.Errorf("%s: panel %d, %q, is there twice or has no title", name, panel.ID, panel.Title)
			}
			ids[panel.ID] = true
			place := panel.GridPos
			if place.W < 1 || place.H < 1 || place.X+place.W > 24 {
				t.Errorf("%s, %s: no place in the grid: %+v", name, panel.Title, place)
			}
			for x := place.X; x < place.X+place.W; x++ {
				for y := place.Y; y < place.Y+place.H; y++ {
					if other, is := taken[[2]int{x, y}]; is {
						t.Fatalf("%s: %s lies over %s", name, panel.Title, other)
					}
					taken[[2]int{x, y}] = panel.Title
				}
			}
		}
	}
}

func TestNoDashboardsWithoutGrafana(t *testing.T) {
	if found := dashboards(t, render(t, matrix["bare platform"])); len(found) > 0 {
		t.Errorf("%d dashboards for a platform that would not know the kind", len(found))
	}
}
