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

	"github.com/google/go-cmp/cmp"
	"k8s.io/apiextensions-apiserver/pkg/apis/apiextensions"
	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	structuralschema "k8s.io/apiextensions-apiserver/pkg/apiserver/schema"
)

func TestEverySchemaIsStructural(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, resource *apiextensionsv1.CustomResourceDefinition) {
		internal := &apiextensions.JSONSchemaProps{}
		if err := apiextensionsv1.Convert_v1_JSONSchemaProps_To_apiextensions_JSONSchemaProps(schemaOf(resource), internal, nil); err != nil {
			t.Fatal(err)
		}
		structural, err := structuralschema.NewStructural(internal)
		if err != nil {
			t.Fatal(err)
		}
		for _, problem := range structuralschema.ValidateStructural(nil, structural) {
			t.Error(problem)
		}
	})
}

func TestEveryResourceIsNamedAndLabelled(t *testing.T) {
	cluster := []string{"ClusterVirtualImage", "VirtualMachineClass", "VirtualMachineIPAddressLease"}
	backedUp := []string{"ClusterVirtualImage", "VirtualMachineClass"}
	shortNames := map[string]string{
		"ClusterVirtualImage":                 "cvi",
		"VirtualDisk":                         "vd",
		"VirtualImage":                        "vi",
		"VirtualMachine":                      "vm",
		"VirtualMachineBlockDeviceAttachment": "vmbda",
		"VirtualMachineClass":                 "vmc vmclass",
		"VirtualMachineIPAddress":             "vmip",
		"VirtualMachineIPAddressLease":        "vmipl vmiplease",
		"VirtualMachineOperation":             "vmop",
	}
	eachKind(t, func(t *testing.T, kind string, resource *apiextensionsv1.CustomResourceDefinition) {
		scope, categories := apiextensionsv1.NamespaceScoped, "virtualization"
		if slices.Contains(cluster, kind) {
			scope, categories = apiextensionsv1.ClusterScoped, "virtualization-cluster"
		}
		if kind == "VirtualMachine" {
			categories = "all virtualization"
		}
		labels := map[string]string{"heritage": "deckhouse", "module": "virtualization"}
		if slices.Contains(backedUp, kind) {
			labels["backup.deckhouse.io/cluster-config"] = "true"
		}
		for what, values := range map[string][2]any{
			"name":        {resource.Name, kinds[kind] + "." + group},
			"group":       {resource.Spec.Group, group},
			"kind":        {resource.Spec.Names.Kind, kind},
			"list kind":   {resource.Spec.Names.ListKind, kind + "List"},
			"singular":    {resource.Spec.Names.Singular, strings.ToLower(kind)},
			"short names": {strings.Join(resource.Spec.Names.ShortNames, " "), shortNames[kind]},
			"categories":  {strings.Join(resource.Spec.Names.Categories, " "), categories},
			"scope":       {resource.Spec.Scope, scope},
			"labels":      {resource.Labels, labels},
		} {
			if diff := cmp.Diff(values[1], values[0]); diff != "" {
				t.Errorf("%s (-want +got):\n%s", what, diff)
			}
		}
	})
}

func TestEveryResourceHasOneVersionWithStatus(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, resource *apiextensionsv1.CustomResourceDefinition) {
		if len(resource.Spec.Versions) != 1 {
			t.Fatalf("%d versions, want 1", len(resource.Spec.Versions))
		}
		version := resource.Spec.Versions[0]
		if version.Name != "v1alpha2" || !version.Served || !version.Storage || version.Deprecated {
			t.Errorf("version is %+v, want v1alpha2, served, stored and not deprecated", version.Name)
		}
		if version.Subresources == nil || version.Subresources.Status == nil {
			t.Error("there is no subresource status")
		}
	})
}

// TestColumns compares the columns that `kubectl get` shows with testdata/columns.txt.
func TestColumns(t *testing.T) {
	var out strings.Builder
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		fmt.Fprintf(&out, "%s\n", kind)
		for _, column := range resource(t, kind).Spec.Versions[0].AdditionalPrinterColumns {
			wide := ""
			if column.Priority > 0 {
				wide = ",wide"
			}
			fmt.Fprintf(&out, "  %s(%s%s)=%s\n", column.Name, column.Type, wide, column.JSONPath)
		}
	}
	want, err := os.ReadFile(filepath.Join("testdata", "columns.txt"))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), out.String()); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
}

// TestEveryKindTellsItsConditions holds the promise that tools may rely on: conditions are a map by type, and
// observedGeneration tells which spec they describe.
func TestEveryKindTellsItsConditions(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, resource *apiextensionsv1.CustomResourceDefinition) {
		have := paths(schemaOf(resource))
		conditions := have["status.conditions"]
		if conditions == nil || conditions.XListType == nil || *conditions.XListType != "map" ||
			!slices.Equal(conditions.XListMapKeys, []string{"type"}) {
			t.Error("status.conditions is not a map by type")
		}
		if have["status.observedGeneration"] == nil {
			t.Error("status.observedGeneration is missing")
		}
	})
}

// TestEveryListTellsHowItIsMerged matters to server-side apply: without a list type two writers overwrite each other
// unnoticed.
func TestEveryListTellsHowItIsMerged(t *testing.T) {
	eachKind(t, func(t *testing.T, _ string, resource *apiextensionsv1.CustomResourceDefinition) {
		for path, schema := range paths(schemaOf(resource)) {
			if schema.Type == "array" && schema.XListType == nil {
				t.Errorf("%s has no list type", path)
			}
		}
	})
}
