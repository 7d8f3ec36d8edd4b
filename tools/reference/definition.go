// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// definition is what a page needs of a CustomResourceDefinition.
type definition struct {
	Spec struct {
		Group string `yaml:"group"`
		Scope string `yaml:"scope"`
		Names struct {
			Kind       string   `yaml:"kind"`
			Plural     string   `yaml:"plural"`
			ShortNames []string `yaml:"shortNames"`
		} `yaml:"names"`
		Versions []struct {
			Name    string `yaml:"name"`
			Columns []struct {
				Name     string `yaml:"name"`
				Path     string `yaml:"jsonPath"`
				Priority int    `yaml:"priority"`
			} `yaml:"additionalPrinterColumns"`
			Schema struct {
				OpenAPIV3Schema *schema `yaml:"openAPIV3Schema"`
			} `yaml:"schema"`
		} `yaml:"versions"`
	} `yaml:"spec"`
}

// schema is what a page tells of a field.
type schema struct {
	Type                 string             `yaml:"type"`
	Format               string             `yaml:"format"`
	Description          string             `yaml:"description"`
	Default              any                `yaml:"default"`
	Enum                 []string           `yaml:"enum"`
	Required             []string           `yaml:"required"`
	Properties           map[string]*schema `yaml:"properties"`
	Items                *schema            `yaml:"items"`
	AdditionalProperties *schema            `yaml:"additionalProperties"`
	Minimum              *int64             `yaml:"minimum"`
	Maximum              *int64             `yaml:"maximum"`
	MaxLength            *int64             `yaml:"maxLength"`
	MinItems             *int64             `yaml:"minItems"`
	MaxItems             *int64             `yaml:"maxItems"`
	Pattern              string             `yaml:"pattern"`
	IntOrString          bool               `yaml:"x-kubernetes-int-or-string"`
	Validations          []struct {
		Message string `yaml:"message"`
		Rule    string `yaml:"rule"`
	} `yaml:"x-kubernetes-validations"`
}

func readDefinition(path string) (*definition, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	d := &definition{}
	if err := yaml.Unmarshal(data, d); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return d, nil
}

// check refuses what has no page.
func (d *definition) check() error {
	if len(d.Spec.Versions) != 1 || d.schema() == nil {
		return errors.New("want one version with a schema; a page for several has yet to be thought of")
	}
	return nil
}

func (d *definition) schema() *schema { return d.Spec.Versions[0].Schema.OpenAPIV3Schema }

// field is one line of a table.
type field struct {
	*schema
	Path     string
	Required bool
	// Text is the description in the language of the page.
	Text string
}

// fields lists all that is below a schema, parents before their children. The twin has the descriptions in another
// language; nil leaves the schema's own.
func fields(path string, node, twin *schema, translated bool) []field {
	var found []field
	for _, name := range sortedKeys(node.Properties) {
		property := node.Properties[name]
		var other *schema
		if twin != nil {
			other = twin.Properties[name]
		}
		below := field{schema: property, Path: path + "." + name, Required: slices.Contains(node.Required, name), Text: property.Description}
		if translated {
			below.Text = ""
			if other != nil {
				below.Text = other.Description
			}
		}
		found = append(found, below)
		found = append(found, fields(below.Path, property, other, translated)...)
	}
	for _, container := range []struct {
		suffix     string
		node, twin *schema
	}{
		{"[]", node.Items, of(twin, func(s *schema) *schema { return s.Items })},
		{".*", node.AdditionalProperties, of(twin, func(s *schema) *schema { return s.AdditionalProperties })},
	} {
		if container.node != nil {
			found = append(found, fields(path+container.suffix, container.node, container.twin, translated)...)
		}
	}
	return found
}

func of(node *schema, member func(*schema) *schema) *schema {
	if node == nil {
		return nil
	}
	return member(node)
}

// typeName is how a page calls the type of a field.
func (s *schema) typeName() string {
	switch {
	case s.IntOrString && strings.Contains(s.Pattern, "[KMGTPE]i"):
		return "quantity"
	case s.IntOrString:
		return "integer | string"
	case s.Type == "array" && s.Items != nil:
		return "[]" + s.Items.typeName()
	case s.AdditionalProperties != nil:
		return "map[string]" + s.AdditionalProperties.typeName()
	case s.Format == "date-time":
		return "time"
	case s.Format == "byte":
		return "base64"
	}
	return s.Type
}

// refusals lists the messages that the API server answers with, by the path of the field that they are about.
func refusals(path string, node *schema) [][2]string {
	var found [][2]string
	for _, validation := range node.Validations {
		if validation.Message != "" {
			found = append(found, [2]string{path, validation.Message})
		}
	}
	for _, name := range sortedKeys(node.Properties) {
		found = append(found, refusals(strings.TrimPrefix(path+"."+name, "."), node.Properties[name])...)
	}
	if node.Items != nil {
		found = append(found, refusals(path+"[]", node.Items)...)
	}
	if node.AdditionalProperties != nil {
		found = append(found, refusals(path+".*", node.AdditionalProperties)...)
	}
	return found
}
