// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package render

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/yannh/kubeconform/pkg/resource"
	"github.com/yannh/kubeconform/pkg/validator"
	"sigs.k8s.io/yaml"
)

// definitions are schemas by name. Those of Kubernetes refer to each other.
type definitions map[string]map[string]any

const referencePrefix = "#/definitions/"

// Conformance checks objects with kubeconform against the schemas of the Kubernetes that third_party pins. Kinds of
// other modules follow testdata/schemas; those in skipped are not checked.
func Conformance(folder string, skipped ...string) (validator.Validator, error) {
	all, err := kubernetesDefinitions()
	if err != nil {
		return nil, err
	}
	if err := all.addOthers(filepath.Join("testdata", "schemas")); err != nil {
		return nil, err
	}
	for name := range all {
		if err := all.write(folder, name); err != nil {
			return nil, fmt.Errorf("schema of %s: %w", name, err)
		}
	}
	options := validator.Opts{Strict: true, SkipKinds: map[string]struct{}{}}
	for _, kind := range skipped {
		options.SkipKinds[kind] = struct{}{}
	}
	// Nothing is downloaded: a kind without a file is an error.
	return validator.New([]string{folder + "/{{ .Group }}_{{ .ResourceKind }}_{{ .ResourceAPIVersion }}.json"}, options)
}

// Conform returns what kubeconform says against an object, or nil.
func Conform(checker validator.Validator, object Object) error {
	content, err := json.Marshal(object.Object)
	if err != nil {
		return err
	}
	result := checker.ValidateResource(resource.Resource{Path: object.Template, Bytes: content})
	return result.Err
}

// kubernetesDefinitions reads the OpenAPI that Kubernetes publishes with its sources. The sandbox builds its cluster
// from the same module, so it is at hand wherever that was built.
func kubernetesDefinitions() (definitions, error) {
	command := exec.Command("go", "mod", "download", "-json", "k8s.io/kubernetes")
	command.Dir = filepath.Join(Root(), "third_party", "kubernetes")
	// The flags that builds need are none for this command.
	command.Env = append(os.Environ(), "GOFLAGS=", "GOWORK=off")
	output, err := command.Output()
	if err != nil {
		return nil, fmt.Errorf("go mod download k8s.io/kubernetes: %w", err)
	}
	var module struct{ Dir string }
	if err := json.Unmarshal(output, &module); err != nil {
		return nil, fmt.Errorf("go mod download k8s.io/kubernetes: %w", err)
	}
	content, err := os.ReadFile(filepath.Join(module.Dir, "api", "openapi-spec", "swagger.json"))
	if err != nil {
		return nil, err
	}
	var published struct {
		Definitions definitions `json:"definitions"`
	}
	if err := json.Unmarshal(content, &published); err != nil {
		return nil, fmt.Errorf("swagger.json: %w", err)
	}
	for _, schema := range published.Definitions {
		closeSchema(schema)
	}
	return published.Definitions, nil
}

// addOthers reads the schemas in a folder; they are named after their files.
func (d definitions) addOthers(folder string) error {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return err
	}
	for _, file := range files {
		text, err := os.ReadFile(filepath.Clean(file))
		if err != nil {
			return err
		}
		schema := map[string]any{}
		if err := yaml.Unmarshal(text, &schema); err != nil {
			return fmt.Errorf("%s: %w", file, err)
		}
		closeSchema(schema)
		d[filepath.Base(file)] = schema
	}
	return nil
}

// write puts the schema of a definition, with all that it refers to, into one file for each kind that it describes.
func (d definitions) write(folder, name string) error {
	kinds, _ := d[name]["x-kubernetes-group-version-kind"].([]any)
	// Options of requests belong to every group and are never in a chart.
	if len(kinds) != 1 {
		return nil
	}
	kind, _ := kinds[0].(map[string]any)
	group := kind["group"]
	if group == "" {
		// kubeconform has no group for these, but the version.
		group = kind["version"]
	}
	needed := definitions{}
	d.collect(d[name], needed)
	content, err := json.Marshal(map[string]any{"allOf": []any{d[name]}, "definitions": needed})
	if err != nil {
		return err
	}
	file := strings.ToLower(fmt.Sprintf("%s_%s_%s.json", group, kind["kind"], kind["version"]))
	return os.WriteFile(filepath.Join(folder, file), content, 0o600)
}

// collect adds to needed whatever a schema refers to.
func (d definitions) collect(node any, needed definitions) {
	switch node := node.(type) {
	case []any:
		for _, entry := range node {
			d.collect(entry, needed)
		}
	case map[string]any:
		if reference, ok := node["$ref"].(string); ok {
			name := strings.TrimPrefix(reference, referencePrefix)
			if _, known := needed[name]; !known {
				needed[name] = d[name]
				d.collect(d[name], needed)
			}
		}
		for _, entry := range node {
			d.collect(entry, needed)
		}
	}
}

// closeSchema forbids the keys that a schema does not name, and says in terms of JSON schema what Kubernetes' own
// formats say.
func closeSchema(schema map[string]any) {
	description, _ := schema["description"].(string)
	switch {
	case schema["format"] == "int-or-string":
		schema["type"] = []any{"string", "integer"}
		delete(schema, "format")
	case schema["type"] == "string" && strings.HasPrefix(description, "Quantity is"):
		schema["type"] = []any{"string", "number"}
	}
	delete(schema, "description")

	properties, _ := schema["properties"].(map[string]any)
	if _, open := schema["additionalProperties"]; len(properties) > 0 && !open {
		schema["additionalProperties"] = false
	}
	for _, key := range []string{"items", "additionalProperties"} {
		if nested, ok := schema[key].(map[string]any); ok {
			closeSchema(nested)
		}
	}
	for _, property := range properties {
		if nested, ok := property.(map[string]any); ok {
			closeSchema(nested)
		}
	}
}
