// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package addressranges

import (
	"context"
	"errors"
	"strings"
	"testing"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/module-sdk/pkg"
	patchablevalues "github.com/deckhouse/module-sdk/pkg/patchable-values"
	"github.com/deckhouse/module-sdk/pkg/settingscheck"
)

// cluster is one with some objects, by resource; reading others fails as problems says.
type cluster struct {
	pkg.DependencyContainer
	pkg.KubernetesClient
	dynamic.Interface

	noClient error
	objects  map[string][]string
	problems map[string]error
}

func (c cluster) GetK8sClient(...pkg.KubernetesOption) (pkg.KubernetesClient, error) {
	return c, c.noClient
}

func (c cluster) Dynamic() dynamic.Interface { return c }

func (c cluster) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return lister{objects: c.objects[resource.Resource], problem: c.problems[resource.Resource]}
}

type lister struct {
	dynamic.NamespaceableResourceInterface
	objects []string
	problem error
}

func (l lister) List(context.Context, metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	list := &unstructured.UnstructuredList{}
	for _, text := range l.objects {
		var object unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
			return nil, err
		}
		list.Items = append(list.Items, object)
	}
	return list, l.problem
}

func TestCheck(t *testing.T) {
	const podNode = "metadata: {name: node-3}\nspec: {podCIDRs: [10.244.3.0/24]}\n"
	full := cluster{objects: map[string][]string{
		"virtualmachineipaddressleases": {heldLease, releasedLease, emptyLease}, "nodes": {node, newNode, podNode},
	}}
	missing := apierrors.NewNotFound(schema.GroupResource{Resource: "virtualmachineipaddressleases"}, "")
	tests := []struct {
		name    string
		cluster cluster
		ranges  []any
		want    string
	}{
		{name: "good", cluster: full, ranges: []any{"10.66.20.0/24", "10.66.30.0/24"}},
		{name: "no ranges at all", cluster: cluster{noClient: errors.New("no cluster")}},
		{name: "a machine falls out", cluster: full, ranges: []any{"10.66.30.0/24"}, want: "10.66.20.5 (VirtualMachineIPAddress team/web); add their range again"},
		{name: "a node within", cluster: full, ranges: []any{"10.66.20.0/24", "192.168.1.0/28"}, want: "overlaps the address of node node-1, 192.168.1.10"},
		{name: "pods within", cluster: full, ranges: []any{"10.66.20.0/24", "10.244.0.0/16"}, want: "overlaps the subnet of the pods, 10.244.3.0/24"},
		{name: "the module is new", ranges: []any{"10.66.30.0/24"}, cluster: cluster{problems: map[string]error{"virtualmachineipaddressleases": missing}}},
		{name: "no cluster", cluster: cluster{noClient: errors.New("no cluster")}, ranges: []any{"10.66.30.0/24"}, want: "no cluster"},
		{name: "leases unknown", ranges: []any{"10.66.30.0/24"}, want: "which addresses are in use, try again: broken",
			cluster: cluster{problems: map[string]error{"virtualmachineipaddressleases": errors.New("broken")}}},
		{name: "nodes unknown", ranges: []any{"10.66.30.0/24"}, want: "which addresses the nodes have, try again: broken",
			cluster: cluster{problems: map[string]error{"nodes": errors.New("broken")}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			values, err := patchablevalues.NewPatchableValues(map[string]any{"virtualMachineCIDRs": test.ranges})
			if err != nil {
				t.Fatal(err)
			}
			got := Check(t.Context(), settingscheck.Input{Settings: values, DC: test.cluster})
			if got.Valid != (test.want == "") || !strings.Contains(got.Message, test.want) {
				t.Errorf("got %+v, want %q", got, test.want)
			}
		})
	}
}
