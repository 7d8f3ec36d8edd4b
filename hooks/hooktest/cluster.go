// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

package hooktest

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"

	"github.com/deckhouse/module-sdk/pkg"
)

// Cluster is what a check of settings can look into. Only what is read in tests works; anything else panics.
type Cluster struct {
	pkg.DependencyContainer
	pkg.KubernetesClient
	dynamic.Interface

	// NoClient is why there is no client at all.
	NoClient error
	// Objects are those of each resource, as YAML.
	Objects map[string][]string
	// Problems are why a resource can't be read.
	Problems map[string]error
}

// GetK8sClient implements pkg.DependencyContainer.
func (c Cluster) GetK8sClient(...pkg.KubernetesOption) (pkg.KubernetesClient, error) {
	return c, c.NoClient
}

// Dynamic implements pkg.KubernetesClient.
func (c Cluster) Dynamic() dynamic.Interface { return c }

// Resource implements dynamic.Interface.
func (c Cluster) Resource(resource schema.GroupVersionResource) dynamic.NamespaceableResourceInterface {
	return reader{resource: resource, objects: c.Objects[resource.Resource], problem: c.Problems[resource.Resource]}
}

// reader reads the objects of one resource.
type reader struct {
	dynamic.NamespaceableResourceInterface
	resource  schema.GroupVersionResource
	namespace string
	objects   []string
	problem   error
}

// Namespace implements dynamic.NamespaceableResourceInterface.
func (r reader) Namespace(name string) dynamic.ResourceInterface {
	r.namespace = name
	return r
}

// List implements dynamic.ResourceInterface.
func (r reader) List(_ context.Context, options metav1.ListOptions) (*unstructured.UnstructuredList, error) {
	list := &unstructured.UnstructuredList{}
	selected, err := labels.Parse(options.LabelSelector)
	if err != nil {
		return nil, err
	}
	for _, text := range r.objects {
		var object unstructured.Unstructured
		if err := yaml.Unmarshal([]byte(text), &object.Object); err != nil {
			return nil, err
		}
		if (r.namespace == "" || object.GetNamespace() == r.namespace) && selected.Matches(labels.Set(object.GetLabels())) {
			list.Items = append(list.Items, object)
		}
	}
	return list, r.problem
}

// Get implements dynamic.ResourceInterface.
func (r reader) Get(ctx context.Context, name string, _ metav1.GetOptions, _ ...string) (*unstructured.Unstructured, error) {
	list, err := r.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	for i := range list.Items {
		if list.Items[i].GetName() == name {
			return &list.Items[i], nil
		}
	}
	return nil, apierrors.NewNotFound(r.resource.GroupResource(), name)
}
