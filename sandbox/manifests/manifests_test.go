// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package manifests

import (
	"io/fs"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/virtualization/sandbox/internal/topology"
)

// object finds one object in a file.
func object(t *testing.T, file, kind, name string) unstructured.Unstructured {
	t.Helper()
	content, err := Files.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, part := range strings.Split(string(content), "\n---\n") {
		var o unstructured.Unstructured
		if err := yaml.UnmarshalStrict([]byte(part), &o.Object); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		if o.GetKind() == kind && o.GetName() == name {
			return o
		}
	}
	t.Fatalf("%s has no %s %s", file, kind, name)
	return unstructured.Unstructured{}
}

func TestEveryFileIsRead(t *testing.T) {
	files, err := fs.Glob(Files, "*.yaml")
	if err != nil || len(files) < 5 {
		t.Fatalf("files %v, %v", files, err)
	}
	for _, file := range files {
		content, err := Files.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for i, part := range strings.Split(string(content), "\n---\n") {
			var o unstructured.Unstructured
			if err := yaml.UnmarshalStrict([]byte(part), &o.Object); err == nil && o.Object == nil {
				continue // nothing but comments
			} else if err != nil || o.GetKind() == "" || o.GetAPIVersion() == "" {
				t.Errorf("%s, object %d: kind %q, %v", file, i+1, o.GetKind(), err)
			}
		}
	}
}

// Downloads from Services are refused; the administrator of the sandbox allows one.
func TestModuleMayDownloadGuests(t *testing.T) {
	address, _, err := unstructured.NestedString(object(t, "guests.yaml", "Service", "guests").Object, "spec", "clusterIP")
	if err != nil || address != topology.GuestsService.String() {
		t.Errorf("the guests' server has the address %q, want %s", address, topology.GuestsService)
	}
	var config unstructured.Unstructured
	if err := yaml.UnmarshalStrict(ModuleConfig, &config.Object); err != nil {
		t.Fatal(err)
	}
	allowed, _, err := unstructured.NestedStringSlice(config.Object, "spec", "settings", "imageSources", "allowedNetworks")
	if want := topology.GuestsService.String() + "/32"; err != nil || len(allowed) != 1 || allowed[0] != want {
		t.Errorf("allowed networks are %v, want only %s", allowed, want)
	}
}

// The machine's way in leads to the first node.
func TestIngressRunsWhereTheWayEnds(t *testing.T) {
	deployment := object(t, "ingress.yaml", "Deployment", "ingress")
	selector, _, _ := unstructured.NestedMap(deployment.Object, "spec", "template", "spec", "nodeSelector")
	if _, found := selector["node-role.kubernetes.io/control-plane"]; !found {
		t.Errorf("it runs on nodes with %v, want the control plane's", selector)
	}
	if host, _, _ := unstructured.NestedBool(deployment.Object, "spec", "template", "spec", "hostNetwork"); !host {
		t.Error("it does not listen on the node")
	}
	object(t, "ingress.yaml", "IngressClass", "nginx")
}
