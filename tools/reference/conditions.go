// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// constant is a condition or a reason.
type constant struct {
	Name, Value string
	// Text says what it means, in one sentence or two.
	Text string
}

// constants are those that stand together in the source.
type constants struct {
	// Key finds the translation of the title; it is the title in English.
	Key, Title string
	// Reasons tells reasons from conditions.
	Reasons bool
	Entries []constant
}

// readConstants reads the conditions and the reasons from the source of the API: only the source has the comments.
func readConstants(dir string) ([]constants, error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	var groups []constants
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			return nil, err
		}
		for _, declaration := range file.Decls {
			block, ok := declaration.(*ast.GenDecl)
			if !ok || block.Tok != token.CONST {
				continue
			}
			found, err := readBlock(block)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", name, err)
			}
			if len(found.Entries) > 0 {
				groups = append(groups, found)
			}
		}
	}
	if len(groups) == 0 {
		return nil, fmt.Errorf("-api: no conditions in %q", dir)
	}
	return groups, nil
}

// readBlock takes the conditions and reasons out of one const ( ... ).
func readBlock(block *ast.GenDecl) (constants, error) {
	// What follows the first sentence is for those who read the source.
	title, _, _ := strings.Cut(strings.TrimSuffix(unwrap(block.Doc.Text()), "."), ". ")
	title = forReaders(title)
	found := constants{Key: title, Title: title}
	for _, spec := range block.Specs {
		value, ok := spec.(*ast.ValueSpec)
		if !ok || len(value.Values) != 1 {
			continue
		}
		typeName, _ := value.Type.(*ast.Ident)
		literal, _ := value.Values[0].(*ast.BasicLit)
		if typeName == nil || literal == nil || typeName.Name != "ConditionType" && typeName.Name != "ConditionReason" {
			continue
		}
		text, err := strconv.Unquote(literal.Value)
		if err != nil {
			return found, fmt.Errorf("%s: %w", value.Names[0].Name, err)
		}
		found.Reasons = typeName.Name == "ConditionReason"
		name := value.Names[0].Name
		found.Entries = append(found.Entries, constant{Name: name, Value: text, Text: meaning(name, value.Doc.Text())})
	}
	if len(found.Entries) > 0 && title == "" {
		return found, fmt.Errorf("the block of %s has no comment, which would be its title", found.Entries[0].Name)
	}
	return found, nil
}

// meaning takes from a comment the name that Go wants it to begin with, and makes a sentence of the rest.
func meaning(name, comment string) string {
	text := strings.TrimPrefix(unwrap(comment), name+" ")
	for _, start := range []string{"means that ", "tells whether ", "tells "} {
		if rest, ok := strings.CutPrefix(text, start); ok && start == "means that " {
			text = rest
		} else if ok {
			text = strings.TrimSuffix(start, " ") + " " + rest
		}
	}
	text = forReaders(text)
	return strings.ToUpper(text[:1]) + text[1:]
}

// forReaders turns the names of Go constants in a text into what objects show.
func forReaders(text string) string {
	words := strings.Fields(text)
	for i, word := range words {
		bare := strings.TrimRight(word, ".,;")
		if shown, ok := strings.CutPrefix(bare, "Condition"); ok && shown != "" && strings.ToUpper(shown[:1]) == shown[:1] && shown != "s" {
			words[i] = "`" + shown + "`" + word[len(bare):]
		}
	}
	return strings.Join(words, " ")
}

func unwrap(comment string) string { return strings.Join(strings.Fields(comment), " ") }

// readTranslation gives the groups the texts of another language. What lacks a text, and texts for nothing, are told
// all at once.
func readTranslation(path string, groups []constants) ([]constants, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	words := map[string]string{}
	if err := yaml.Unmarshal(data, &words); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	used := map[string]bool{}
	var problems []error
	need := func(key string) string {
		used[key] = true
		if words[key] == "" {
			problems = append(problems, fmt.Errorf("%s: no text for %q", path, key))
		}
		return words[key]
	}
	translated := make([]constants, 0, len(groups))
	for _, group := range groups {
		other := constants{Key: group.Key, Title: need(group.Key), Reasons: group.Reasons}
		for _, entry := range group.Entries {
			other.Entries = append(other.Entries, constant{Name: entry.Name, Value: entry.Value, Text: need(entry.Name)})
		}
		translated = append(translated, other)
	}
	for _, key := range sortedKeys(words) {
		if !used[key] {
			problems = append(problems, fmt.Errorf("%s: nothing is called %q", path, key))
		}
	}
	return translated, errors.Join(problems...)
}

// conditionsPage is the page of all conditions and reasons.
func conditionsPage(l language, groups []constants) string {
	var out strings.Builder
	fmt.Fprintf(&out, "---\ntitle: %q\ndescription: %q\n---\n\n", l.ConditionsTitle, l.ConditionsSummary)
	fmt.Fprintf(&out, "<!-- %s -->\n\n%s\n", l.Generated, l.ConditionsText)
	for _, part := range []struct {
		head, column string
		reasons      bool
	}{{l.ConditionsHead, l.Condition, false}, {l.ReasonsHead, l.Reason, true}} {
		fmt.Fprintf(&out, "\n## %s\n", part.head)
		for _, group := range groups {
			if group.Reasons != part.reasons {
				continue
			}
			fmt.Fprintf(&out, "\n### %s\n\n| %s | %s |\n|---|---|\n", group.Title, part.column, l.Meaning)
			for _, entry := range sorted(group.Entries) {
				fmt.Fprintf(&out, "| `%s` | %s |\n", entry.Value, cell(entry.Text))
			}
		}
	}
	return out.String()
}

func sorted(entries []constant) []constant {
	return slices.SortedFunc(slices.Values(entries), func(a, b constant) int { return strings.Compare(a.Value, b.Value) })
}
