// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package rbac holds the published table of rights. The chart's roles are compared with it in test/render, a running
// cluster in test/e2e, and the administrator's guide is written from it.
package rbac

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/yaml"
)

//go:embed rights.yaml
var table []byte

// Rights is the table.
type Rights struct {
	Levels    []Level             `json:"levels"`
	Verbs     map[string][]string `json:"verbs"`
	Resources []Resource          `json:"resources"`
	Streams   []Stream            `json:"streams"`
	// Closed are subresources that no level opens.
	Closed []string `json:"closed"`
}

// Level is a column: an access level, and the roles of the newer model that say the same.
type Level struct {
	Level string `json:"level"`
	// Role ends the name of the level's ClusterRole.
	Role string `json:"role"`
	// Use is bound in a namespace, Manage in the cluster; Manage may be empty. The names of both roles
	// depend on the version of Deckhouse, but not their levels.
	Use    string `json:"use"`
	Manage string `json:"manage"`
}

// Resource is a row of the API's resources.
type Resource struct {
	Name string `json:"name"`
	// Cluster is set for resources that are in no namespace.
	Cluster bool `json:"cluster"`
	// Cells has the letters of the verbs for each level; "-" is none.
	Cells []string `json:"cells"`
}

// Stream is a row of what people open with the client.
type Stream struct {
	// Commands are those of the client that open it.
	Commands []string `json:"commands"`
	// Name of the subresource.
	Name string `json:"name"`
	Open []bool `json:"open"`
}

// Load reads the table, and refuses one that is not rectangular or uses unknown letters.
func Load() (*Rights, error) { return parse(table) }

func parse(text []byte) (*Rights, error) {
	rights := &Rights{}
	if err := yaml.UnmarshalStrict(text, rights); err != nil {
		return nil, fmt.Errorf("rights.yaml: %w", err)
	}
	for _, resource := range rights.Resources {
		if len(resource.Cells) != len(rights.Levels) {
			return nil, fmt.Errorf("rights.yaml: %s has %d cells for %d levels", resource.Name, len(resource.Cells), len(rights.Levels))
		}
		for _, cell := range resource.Cells {
			if _, err := rights.verbsOf(cell); err != nil {
				return nil, fmt.Errorf("rights.yaml: %s: %w", resource.Name, err)
			}
		}
	}
	for _, stream := range rights.Streams {
		if len(stream.Open) != len(rights.Levels) {
			return nil, fmt.Errorf("rights.yaml: %s has %d cells for %d levels", stream.Name, len(stream.Open), len(rights.Levels))
		}
	}
	return rights, nil
}

// VerbsOf lists, sorted, the verbs of a cell. The cells of a loaded table are known to be good.
func (r *Rights) VerbsOf(cell string) []string {
	verbs, _ := r.verbsOf(cell)
	return verbs
}

func (r *Rights) verbsOf(cell string) ([]string, error) {
	var verbs []string
	if cell == "-" {
		return nil, nil
	}
	for _, letter := range cell {
		more, known := r.Verbs[string(letter)]
		if !known {
			return nil, fmt.Errorf("%q in %q is no letter of verbs", letter, cell)
		}
		verbs = append(verbs, more...)
	}
	slices.Sort(verbs)
	return verbs, nil
}

// AllVerbs lists, sorted, every verb that a cell can stand for.
func (r *Rights) AllVerbs() []string {
	var verbs []string
	for _, some := range r.Verbs {
		verbs = append(verbs, some...)
	}
	slices.Sort(verbs)
	return verbs
}

// Words are those of a language.
type Words struct {
	Resource, Yes, No, Level, None string
	// Use and Manage head the roles of the newer model, in a namespace and in the cluster;
	// the other two are those of before Deckhouse 1.78.
	Use, Manage, UseBefore, ManageBefore string
}

// English and Russian are the languages of the guides.
var (
	English = Words{
		Resource: "Resource", Yes: "yes", No: "no", Level: "Access level", None: "—",
		Use: "Role in a namespace", Manage: "Role in the cluster",
		UseBefore: "In a namespace before Deckhouse 1.78", ManageBefore: "In the cluster before 1.78",
	}
	Russian = Words{
		Resource: "Ресурс", Yes: "да", No: "нет", Level: "Уровень доступа", None: "—",
		Use: "Роль в пространстве имён", Manage: "Роль в кластере",
		UseBefore: "В пространстве имён до Deckhouse 1.78", ManageBefore: "В кластере до 1.78",
	}
)

// Markdown writes the table of resources and commands, and the one of the newer role model.
func (r *Rights) Markdown(words Words) string {
	header := []string{words.Resource}
	for _, level := range r.Levels {
		header = append(header, level.Level)
	}
	rows := [][]string{}
	for _, resource := range r.Resources {
		rows = append(rows, append([]string{"`" + resource.Name + "`"}, resource.Cells...))
	}
	for _, stream := range r.Streams {
		row := []string{"`d8v " + strings.Join(stream.Commands, "`, `d8v ") + "`"}
		for _, open := range stream.Open {
			row = append(row, map[bool]string{true: words.Yes, false: words.No}[open])
		}
		rows = append(rows, row)
	}
	var roles [][]string
	for _, level := range r.Levels {
		manage, before := words.None, words.None
		if level.Manage != "" {
			manage, before = "`d8:subsystem:virtualization:"+level.Manage+"`", "`d8:manage:virtualization:"+level.Manage+"`"
		}
		roles = append(roles, []string{level.Level, "`d8:namespace:" + level.Use + "`", manage, "`d8:use:role:" + level.Use + ":virtualization`", before})
	}
	return markdown(header, rows) + "\n" + markdown([]string{words.Level, words.Use, words.Manage, words.UseBefore, words.ManageBefore}, roles)
}

func markdown(header []string, rows [][]string) string {
	var out strings.Builder
	line := func(cells []string) { fmt.Fprintf(&out, "| %s |\n", strings.Join(cells, " | ")) }
	line(header)
	out.WriteString(strings.Repeat("|---", len(header)) + "|\n")
	for _, row := range rows {
		line(row)
	}
	return out.String()
}

// Begin and End enclose the written part of a guide.
const (
	Begin = "<!-- Written by `make generate` from test/rbac/rights.yaml. -->\n"
	End   = "<!-- End of what is written. -->\n"
)

// Insert replaces what is between Begin and End in a guide.
func Insert(guide, tables string) (string, error) {
	before, rest, begins := strings.Cut(guide, Begin)
	_, after, ends := strings.Cut(rest, End)
	if !begins || !ends {
		return "", fmt.Errorf("the guide lacks the line %q or, after it, %q", strings.TrimSpace(Begin), strings.TrimSpace(End))
	}
	return before + Begin + "\n" + tables + "\n" + End + after, nil
}
