// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// page is the reference of a kind. The twin has the descriptions of another language; nil leaves the definition's own.
func (d *definition) page(l language, twin *definition) string {
	root, names, version := d.schema(), d.Spec.Names, d.Spec.Versions[0]
	var other *schema
	summary := root.Description
	if twin != nil {
		other = twin.schema()
		summary = other.Description
	}

	var out strings.Builder
	fmt.Fprintf(&out, "---\ntitle: %q\ndescription: %q\n---\n\n", names.Kind, fmt.Sprintf(l.Summary, names.Kind))
	fmt.Fprintf(&out, "<!-- %s -->\n\n%s\n\n", l.Generated, strings.TrimSpace(summary))

	fmt.Fprintf(&out, "| | |\n|---|---|\n| apiVersion | `%s/%s` |\n| kind | `%s` |\n", d.Spec.Group, version.Name, names.Kind)
	fmt.Fprintf(&out, "| %s | %s |\n", l.Scope, l.Scopes[d.Spec.Scope])
	fmt.Fprintf(&out, "| %s | %s |\n\n", l.ShortNames, code(append([]string{names.Plural}, names.ShortNames...)))
	fmt.Fprintf(&out, "%s\n", fmt.Sprintf(l.Statuses, "conditions.html"))

	for _, part := range []string{"spec", "status"} {
		node := root.Properties[part]
		if node == nil {
			continue
		}
		below := fields(part, node, of(other, func(s *schema) *schema { return s.Properties[part] }), twin != nil)
		if len(below) == 0 {
			continue
		}
		fmt.Fprintf(&out, "\n## %s\n\n| %s | %s | %s |\n|---|---|---|\n", part, l.Field, l.Kind, l.Description)
		for _, f := range below {
			fmt.Fprintf(&out, "| `%s` | %s | %s |\n", f.Path, cell(f.typeName()), cell(f.describe(l)))
		}
	}
	d.writeRefusals(&out, l)
	d.writeColumns(&out, l)
	return out.String()
}

func (d *definition) writeRefusals(out *strings.Builder, l language) {
	found := refusals("", d.schema())
	if len(found) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n| %s | %s |\n|---|---|\n", l.Refused, l.RefusedText, l.Field, l.Message)
	for _, refusal := range found {
		path := refusal[0]
		if path == "" {
			path = d.Spec.Names.Kind
		}
		fmt.Fprintf(out, "| `%s` | %s |\n", path, cell(refusal[1]))
	}
}

func (d *definition) writeColumns(out *strings.Builder, l language) {
	columns := d.Spec.Versions[0].Columns
	if len(columns) == 0 {
		return
	}
	fmt.Fprintf(out, "\n## %s\n\n| %s | %s | %s |\n|---|---|---|\n", l.Columns, l.Column, l.Field, l.Shown)
	for _, column := range columns {
		shown := l.Always
		if column.Priority > 0 {
			shown = "`-o wide`"
		}
		fmt.Fprintf(out, "| %s | `%s` | %s |\n", column.Name, cell(strings.TrimPrefix(column.Path, ".")), shown)
	}
}

// describe is the description of a field and what its schema demands of it.
func (f field) describe(l language) string {
	var sentences []string
	if f.Required {
		sentences = append(sentences, l.Required)
	}
	if f.Default != nil {
		sentences = append(sentences, fmt.Sprintf(l.ByDefault, literal(f.Default)))
	}
	values := f.Enum
	if f.Items != nil {
		values = slices.Concat(values, f.Items.Enum)
	}
	// That a field may be empty is said by its description.
	values = slices.DeleteFunc(slices.Clone(values), func(v string) bool { return v == "" })
	if len(values) > 0 {
		sentences = append(sentences, fmt.Sprintf(l.OneOf, code(values)))
	}
	for _, bound := range []struct {
		text  string
		value *int64
	}{
		{l.Minimum, f.Minimum}, {l.Maximum, f.Maximum}, {l.MaxLength, f.MaxLength}, {l.MinItems, f.MinItems}, {l.MaxItems, f.MaxItems},
	} {
		if bound.value != nil {
			sentences = append(sentences, fmt.Sprintf(bound.text, *bound.value))
		}
	}
	demands := strings.Join(sentences, " ")
	if strings.Contains(f.Text, "\n") {
		return strings.TrimSpace(f.Text + "\n" + demands)
	}
	return strings.TrimSpace(f.Text + " " + demands)
}

// literal is a default as a manifest would have it.
func literal(value any) string {
	if text, plain := value.(string); plain {
		return text
	}
	text, err := json.Marshal(value)
	if err != nil {
		return fmt.Sprint(value)
	}
	return string(text)
}

// address finds addresses, and what stands between backticks already, so that addresses there are passed over.
var address = regexp.MustCompile("`[^`]*`|https?://[^\\s`]*")

// cell makes a text fit into a cell of a table: no line breaks, and nothing that ends the cell. Addresses become code:
// they are examples, and a site would make links of them.
func cell(text string) string {
	text = address.ReplaceAllStringFunc(strings.TrimSpace(text), func(found string) string {
		if strings.HasPrefix(found, "`") {
			return found
		}
		bare := strings.TrimRight(found, ".,;:)")
		return code([]string{bare}) + found[len(bare):]
	})
	return strings.NewReplacer("|", `\|`, "\n- ", "<br>— ", "\n", "<br>", "<", "&lt;").Replace(text)
}

func code(words []string) string { return "`" + strings.Join(words, "`, `") + "`" }

func sortedKeys[V any](values map[string]V) []string { return slices.Sorted(maps.Keys(values)) }
