// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

// object is a YAML mapping; maps are written with sorted keys, so the output is the same every time.
type object = map[string]any

// resource is one CustomResourceDefinition as controller-gen wrote it.
type resource struct {
	content object
}

func readResource(path string) (*resource, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	r := &resource{}
	if err := yaml.Unmarshal(data, &r.content); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if kind, _ := r.content["kind"].(string); kind != "CustomResourceDefinition" {
		return nil, fmt.Errorf("%s: kind is %q, want CustomResourceDefinition", path, kind)
	}
	return r, nil
}

func (r *resource) names() object {
	return child(child(r.content, "spec"), "names")
}

// name is the plural name of the resource, which its file is called after.
func (r *resource) name() string {
	return r.names()["plural"].(string)
}

// kind is the kind that the resource defines.
func (r *resource) kind() string {
	return r.names()["kind"].(string)
}

// versions returns the name and the schema of every version.
func (r *resource) versions() (names []string, schemas []object) {
	list, _ := child(r.content, "spec")["versions"].([]any)
	for _, item := range list {
		version := item.(object)
		names = append(names, version["name"].(string))
		schemas = append(schemas, child(child(version, "schema"), "openAPIV3Schema"))
	}
	return names, schemas
}

// tidy drops the descriptions of list items (the list itself is described, and the comment of the Go type behind the
// items only repeats it) and puts the words of the dictionary in place of those of foreign Go types.
func (r *resource) tidy(words *dictionary) object {
	_, schemas := r.versions()
	for _, schema := range schemas {
		walk(schema, "", func(path string, node object, item bool) {
			text, described := node["description"].(string)
			if !described {
				return
			}
			if item {
				delete(node, "description")
				return
			}
			if other, ok := words.find(r.kind(), path); ok {
				text = other
			}
			node["description"] = unwrap(text)
		})
	}
	return r.content
}

// unwrap joins the lines of a paragraph, which are broken where the Go comment was; the points of a list stay apart.
func unwrap(text string) string {
	lines := strings.Split(text, "\n")
	var out strings.Builder
	for i, line := range lines {
		switch {
		case i == 0:
		case line == "" || lines[i-1] == "" || strings.HasPrefix(line, "- "):
			out.WriteString("\n")
		default:
			out.WriteString(" ")
		}
		out.WriteString(line)
	}
	return out.String()
}

// twin builds the same tree with nothing but Russian descriptions.
func (r *resource) twin(words *dictionary) object {
	names, schemas := r.versions()
	versions := make([]any, 0, len(names))
	for i, schema := range schemas {
		versions = append(versions, object{
			"name":   names[i],
			"schema": object{"openAPIV3Schema": translate(schema, "", r.kind(), words)},
		})
	}
	return object{"spec": object{"versions": versions}}
}

// translate returns nil for a subtree that has nothing to describe.
func translate(node object, path, kind string, words *dictionary) object {
	out := object{}
	if _, described := node["description"]; described {
		out["description"] = words.need(kind, path)
	}
	properties := object{}
	for name, property := range child(node, "properties") {
		if sub := translate(property.(object), join(path, name), kind, words); sub != nil {
			properties[name] = sub
		}
	}
	if len(properties) > 0 {
		out["properties"] = properties
	}
	for key, suffix := range containers {
		if items, ok := node[key].(object); ok {
			if sub := translate(items, path+suffix, kind, words); sub != nil {
				out[key] = sub
			}
		}
	}
	if len(out) == 0 {
		return nil
	}
	return out
}

// containers are the members of a schema that describe what a list or a map holds, and how that shows in a path.
var containers = map[string]string{"items": "[]", "additionalProperties": "{}"}

// walk visits a schema and everything below it; item tells that the node is what a list or a map holds.
func walk(node object, path string, visit func(path string, node object, item bool)) {
	visit(path, node, strings.HasSuffix(path, "[]") || strings.HasSuffix(path, "{}"))
	for name, property := range child(node, "properties") {
		walk(property.(object), join(path, name), visit)
	}
	for key, suffix := range containers {
		if items, ok := node[key].(object); ok {
			walk(items, path+suffix, visit)
		}
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func child(node object, name string) object {
	sub, _ := node[name].(object)
	return sub
}

func writeYAML(path string, content any) error {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if err := encoder.Encode(content); err != nil {
		return err
	}
	return os.WriteFile(path, out.Bytes(), 0o644)
}
