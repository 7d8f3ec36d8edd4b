// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package crd

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/internal/testing/apiserver"
)

const (
	group     = "virtualization.deckhouse.io"
	directory = "../../crds"
	twin      = "doc-ru-"
)

// kinds are the nine kinds of the platform with the names of their files.
var kinds = map[string]string{
	"ClusterVirtualImage":                 "clustervirtualimages",
	"VirtualDisk":                         "virtualdisks",
	"VirtualImage":                        "virtualimages",
	"VirtualMachine":                      "virtualmachines",
	"VirtualMachineBlockDeviceAttachment": "virtualmachineblockdeviceattachments",
	"VirtualMachineClass":                 "virtualmachineclasses",
	"VirtualMachineIPAddress":             "virtualmachineipaddresses",
	"VirtualMachineIPAddressLease":        "virtualmachineipaddressleases",
	"VirtualMachineOperation":             "virtualmachineoperations",
}

func TestMain(m *testing.M) { apiserver.Main(m) }

// eachKind runs a subtest with the resource of every kind, sorted.
func eachKind(t *testing.T, test func(*testing.T, string, *apiextensionsv1.CustomResourceDefinition)) {
	t.Helper()
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		t.Run(kind, func(t *testing.T) { test(t, kind, resource(t, kind)) })
	}
}

func resource(t *testing.T, kind string) *apiextensionsv1.CustomResourceDefinition {
	t.Helper()
	out := &apiextensionsv1.CustomResourceDefinition{}
	readYAML(t, kinds[kind]+".yaml", out)
	return out
}

func readYAML(t *testing.T, name string, into any) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(directory, name))
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.UnmarshalStrict(data, into); err != nil {
		t.Fatalf("%s: %v", name, err)
	}
}

func schemaOf(resource *apiextensionsv1.CustomResourceDefinition) *apiextensionsv1.JSONSchemaProps {
	return resource.Spec.Versions[0].Schema.OpenAPIV3Schema
}

// paths lists every path below a schema: x.y is a member, [] what a list holds, {} what a map holds.
func paths(schema *apiextensionsv1.JSONSchemaProps) map[string]*apiextensionsv1.JSONSchemaProps {
	out := map[string]*apiextensionsv1.JSONSchemaProps{}
	collect(schema, "", out)
	delete(out, "")
	return out
}

func collect(schema *apiextensionsv1.JSONSchemaProps, path string, out map[string]*apiextensionsv1.JSONSchemaProps) {
	out[path] = schema
	for name := range schema.Properties {
		property := schema.Properties[name]
		collect(&property, strings.TrimPrefix(path+"."+name, "."), out)
	}
	if schema.Items != nil && schema.Items.Schema != nil {
		collect(schema.Items.Schema, path+"[]", out)
	}
	if schema.AdditionalProperties != nil && schema.AdditionalProperties.Schema != nil {
		collect(schema.AdditionalProperties.Schema, path+"{}", out)
	}
}

// typeOf names the type of a schema as the lists of paths in testdata do.
func typeOf(schema *apiextensionsv1.JSONSchemaProps) string {
	if schema.XIntOrString {
		return "int-or-string"
	}
	return schema.Type
}

func enumOf(schema *apiextensionsv1.JSONSchemaProps) []string {
	out := make([]string, 0, len(schema.Enum))
	for _, value := range schema.Enum {
		text := string(value.Raw)
		if text != `""` {
			text = strings.Trim(text, `"`)
		}
		out = append(out, text)
	}
	return out
}

// lines reads a file of testdata without comments and empty lines.
func lines(t *testing.T, name string) []string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("testdata", name))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for line := range strings.Lines(string(data)) {
		if line = strings.TrimRight(line, "\n"); line != "" && !strings.HasPrefix(line, "#") {
			out = append(out, line)
		}
	}
	if len(out) == 0 {
		t.Fatal(fmt.Errorf("testdata/%s holds nothing", name))
	}
	return out
}
