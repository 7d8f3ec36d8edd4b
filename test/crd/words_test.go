// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"maps"
	"slices"
	"strings"
	"testing"
	"unicode"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
)

// undocumented are the paths without a description: what lists and maps hold is described by the list or the map, and
// metadata is the same everywhere.
func undocumented(path string) bool {
	return path == "metadata" || strings.HasSuffix(path, "[]") || strings.HasSuffix(path, "{}")
}

func TestEveryPathIsDescribed(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, resource *apiextensionsv1.CustomResourceDefinition) {
		if schemaOf(resource).Description == "" {
			t.Error("the kind has no description")
		}
		for path, schema := range paths(schemaOf(resource)) {
			if undocumented(path) {
				continue
			}
			name := path[strings.LastIndex(path, ".")+1:]
			if !strings.HasPrefix(schema.Description, name+" ") {
				t.Errorf("%s: the description %q does not begin with the name", path, schema.Description)
			}
			if !strings.HasSuffix(schema.Description, ".") {
				t.Errorf("%s: the description %q is no sentence", path, schema.Description)
			}
		}
	})
}

// twinFile is all that a twin may hold; a strict reader refuses everything else.
type twinFile struct {
	Spec struct {
		Versions []struct {
			Name   string `json:"name"`
			Schema struct {
				OpenAPIV3Schema twinNode `json:"openAPIV3Schema"`
			} `json:"schema"`
		} `json:"versions"`
	} `json:"spec"`
}

type twinNode struct {
	Description          string              `json:"description,omitempty"`
	Properties           map[string]twinNode `json:"properties,omitempty"`
	Items                *twinNode           `json:"items,omitempty"`
	AdditionalProperties *twinNode           `json:"additionalProperties,omitempty"`
}

func (n twinNode) collect(path string, out map[string]string) {
	out[path] = n.Description
	for name, property := range n.Properties {
		property.collect(strings.TrimPrefix(path+"."+name, "."), out)
	}
	if n.Items != nil {
		n.Items.collect(path+"[]", out)
	}
	if n.AdditionalProperties != nil {
		n.AdditionalProperties.collect(path+"{}", out)
	}
}

func TestEveryPathIsDescribedInRussian(t *testing.T) {
	eachKind(t, func(t *testing.T, kind string, resource *apiextensionsv1.CustomResourceDefinition) {
		file := twinFile{}
		readYAML(t, twin+kinds[kind]+".yaml", &file)
		if len(file.Spec.Versions) != 1 || file.Spec.Versions[0].Name != "v1alpha2" {
			t.Fatalf("the twin does not describe v1alpha2 alone: %v", file.Spec.Versions)
		}
		russian := map[string]string{}
		file.Spec.Versions[0].Schema.OpenAPIV3Schema.collect("", russian)
		english := paths(schemaOf(resource))
		english[""] = schemaOf(resource)
		for _, path := range slices.Sorted(maps.Keys(english)) {
			if !undocumented(path) && !isRussian(russian[path]) {
				t.Errorf("%s: the description %q is not Russian", path, russian[path])
			}
		}
		for _, path := range slices.Sorted(maps.Keys(russian)) {
			if english[path] == nil {
				t.Errorf("%s is in the twin only", path)
			}
		}
	})
}

// isRussian wants a sentence in which a Russian word stands.
func isRussian(text string) bool {
	return strings.ContainsFunc(text, func(r rune) bool { return unicode.Is(unicode.Cyrillic, r) }) &&
		strings.HasSuffix(text, ".")
}
