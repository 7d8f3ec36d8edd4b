// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"k8s.io/kube-openapi/pkg/validation/spec"
	"k8s.io/kube-openapi/pkg/validation/strfmt"
	"k8s.io/kube-openapi/pkg/validation/validate"
	"sigs.k8s.io/yaml"
)

// Settings is the schema of what an administrator may write into a ModuleConfig. Like in Deckhouse, a key that the
// schema does not name is an error.
func Settings() (*spec.Schema, error) {
	return readSchema(filepath.Join("openapi", "config-values.yaml"))
}

// ModuleValues is the schema of all values of the module: the settings and what hooks and Deckhouse add to them.
func ModuleValues() (*spec.Schema, error) {
	settings, err := Settings()
	if err != nil {
		return nil, err
	}
	values, err := readSchema(filepath.Join("openapi", "values.yaml"))
	if err != nil {
		return nil, err
	}
	// This is what x-extend in values.yaml says.
	for name, property := range settings.Properties {
		values.Properties[name] = property
	}
	values.Required = settings.Required
	return values, nil
}

// CustomResource is the schema of a kind, from the CustomResourceDefinition in a file of crds/.
func CustomResource(file string) (*spec.Schema, error) {
	var definition struct {
		Spec struct {
			Versions []struct {
				Storage bool `json:"storage"`
				Schema  struct {
					OpenAPIV3Schema spec.Schema `json:"openAPIV3Schema"`
				} `json:"schema"`
			} `json:"versions"`
		} `json:"spec"`
	}
	if err := readYAML(filepath.Join("crds", file), &definition); err != nil {
		return nil, err
	}
	for _, version := range definition.Spec.Versions {
		if version.Storage {
			schema := version.Schema.OpenAPIV3Schema
			// Metadata is described by Kubernetes, not by the definition.
			delete(schema.Properties, "metadata")
			schema.Properties["metadata"] = *spec.MapProperty(nil)
			closeObjects(&schema)
			return &schema, nil
		}
	}
	return nil, fmt.Errorf("crds/%s has no stored version", file)
}

// Validate returns what is wrong with an object, sorted.
func Validate(schema *spec.Schema, object any) []string {
	validator := validate.NewSchemaValidator(schema, nil, "", strfmt.Default)
	var problems []string
	for _, err := range validator.Validate(object).Errors {
		problems = append(problems, err.Error())
	}
	slices.Sort(problems)
	return problems
}

func readSchema(file string) (*spec.Schema, error) {
	schema := &spec.Schema{}
	if err := readYAML(file, schema); err != nil {
		return nil, err
	}
	closeObjects(schema)
	return schema, nil
}

func readYAML(file string, into any) error {
	text, err := os.ReadFile(filepath.Join(Root(), file))
	if err != nil {
		return err
	}
	content, err := yaml.YAMLToJSON(text)
	if err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	if err := json.Unmarshal(content, into); err != nil {
		return fmt.Errorf("%s: %w", file, err)
	}
	return nil
}

// closeObjects forbids keys that the schema does not name, the way addon-operator and the API server do.
func closeObjects(schema *spec.Schema) {
	open, _ := schema.Extensions.GetBool("x-kubernetes-preserve-unknown-fields")
	if len(schema.Properties) > 0 && schema.AdditionalProperties == nil && !open {
		schema.AdditionalProperties = &spec.SchemaOrBool{Allows: false}
	}
	if number, _ := schema.Extensions.GetBool("x-kubernetes-int-or-string"); number {
		// The patterns of quantities apply to their written form only.
		schema.Pattern, schema.AnyOf = "", nil
	}
	for name, property := range schema.Properties {
		closeObjects(&property)
		schema.Properties[name] = property
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		closeObjects(schema.Items.Schema)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		closeObjects(schema.AdditionalProperties.Schema)
	}
}
