// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package v1alpha2

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// constant is an exported constant as it stands in the source.
type constant struct {
	name, typeName, value, doc string
}

// constants reads the constants of this package from its source, because only the source knows the comments.
func constants(t *testing.T) []constant {
	t.Helper()
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	var out []constant
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
		if err != nil {
			t.Fatal(err)
		}
		for _, declaration := range file.Decls {
			if group, ok := declaration.(*ast.GenDecl); ok && group.Tok == token.CONST {
				out = append(out, constantsOf(t, group)...)
			}
		}
	}
	if len(out) == 0 {
		t.Fatal("no constants were found")
	}
	return out
}

func constantsOf(t *testing.T, group *ast.GenDecl) []constant {
	t.Helper()
	var out []constant
	for _, spec := range group.Specs {
		value := spec.(*ast.ValueSpec)
		c := constant{name: value.Names[0].Name, doc: strings.TrimSpace(value.Doc.Text())}
		if c.doc == "" {
			c.doc = strings.TrimSpace(group.Doc.Text())
		}
		if name, ok := value.Type.(*ast.Ident); ok {
			c.typeName = name.Name
		}
		if literal, ok := value.Values[0].(*ast.BasicLit); ok {
			text, err := strconv.Unquote(literal.Value)
			if err != nil {
				t.Fatal(err)
			}
			c.value = text
		}
		out = append(out, c)
	}
	return out
}

// ofType keeps the constants of one type.
func ofType(all []constant, typeName string) []constant {
	var out []constant
	for _, c := range all {
		if c.typeName == typeName {
			out = append(out, c)
		}
	}
	return out
}

// TestConstantsAreDocumented holds the promise that users can look up everything that an object tells.
func TestConstantsAreDocumented(t *testing.T) {
	for _, c := range constants(t) {
		if !strings.HasPrefix(c.doc, c.name+" ") || !strings.HasSuffix(c.doc, ".") {
			t.Errorf("%s: the comment %q is not a sentence that begins with the name", c.name, c.doc)
		}
	}
}

// wellFormed is what the API server demands of the type and the reason of a condition.
var wellFormed = regexp.MustCompile(`^[A-Z][A-Za-z0-9]*$`)

func TestConditionsAreWellFormed(t *testing.T) {
	all := constants(t)
	for typeName, prefix := range map[string]string{"ConditionType": "Condition", "ConditionReason": "Reason"} {
		found := ofType(all, typeName)
		if len(found) == 0 {
			t.Errorf("there are no constants of type %s", typeName)
		}
		for _, c := range found {
			if !strings.HasPrefix(c.name, prefix) {
				t.Errorf("%s is a %s and does not begin with %s", c.name, typeName, prefix)
			}
			if !wellFormed.MatchString(c.value) {
				t.Errorf("%s: %q is not in CamelCase", c.name, c.value)
			}
		}
	}
}

func TestConditionTypesDiffer(t *testing.T) {
	names := map[string]string{}
	for _, c := range ofType(constants(t), "ConditionType") {
		if other, taken := names[c.value]; taken {
			t.Errorf("%s and %s are both %q", other, c.name, c.value)
		}
		names[c.value] = c.name
	}
}

// TestReasonsTellWhatTheyMean: a reason that more than one condition uses may have more than one constant, but each
// has to say something of its own.
func TestReasonsTellWhatTheyMean(t *testing.T) {
	docs := map[string]string{}
	for _, c := range ofType(constants(t), "ConditionReason") {
		_, meaning, _ := strings.Cut(c.doc, " ")
		if other, taken := docs[meaning]; taken {
			t.Errorf("%s and %s say the same: %q", other, c.name, meaning)
		}
		docs[meaning] = c.name
	}
}

func TestFinalizersDiffer(t *testing.T) {
	names := map[string]string{}
	for _, c := range constants(t) {
		if !strings.HasPrefix(c.name, "Finalizer") {
			continue
		}
		if !strings.HasPrefix(c.value, GroupName+"/") {
			t.Errorf("%s: %q does not begin with the group", c.name, c.value)
		}
		if other, taken := names[c.value]; taken {
			t.Errorf("%s and %s are both %q", other, c.name, c.value)
		}
		names[c.value] = c.name
	}
}
