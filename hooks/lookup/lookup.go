// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package lookup reads the cluster for hooks and checks of settings that can't subscribe: the kind may not be there yet,
// or nobody would be told in time. What is not there, or of a kind that the cluster does not know, is no error.
package lookup

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"

	"github.com/deckhouse/module-sdk/pkg"
)

// Kinds of Kubernetes that more than one package asks for.
var (
	Nodes          = schema.GroupVersionResource{Version: "v1", Resource: "nodes"}
	Secrets        = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	StorageClasses = schema.GroupVersionResource{Group: "storage.k8s.io", Version: "v1", Resource: "storageclasses"}
)

// Module is a kind of this module's API.
func Module(resource string) schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "virtualization.deckhouse.io", Version: "v1alpha2", Resource: resource}
}

// Cluster is what can be read. Its errors say that it is worth trying again.
type Cluster struct {
	client dynamic.Interface
}

// Of connects to the cluster.
func Of(dependencies pkg.DependencyContainer) (Cluster, error) {
	client, err := dependencies.GetK8sClient()
	if err != nil {
		return Cluster{}, fmt.Errorf("the cluster can't be asked now, try again: %w", err)
	}
	return Cluster{client.Dynamic()}, nil
}

// Get returns nil if there is no such object. The namespace is empty for what belongs to none.
func (c Cluster) Get(ctx context.Context, resource schema.GroupVersionResource, namespace, name string) (*unstructured.Unstructured, error) {
	var reader dynamic.ResourceInterface = c.client.Resource(resource)
	if namespace != "" {
		reader = c.client.Resource(resource).Namespace(namespace)
	}
	object, err := reader.Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(resource, err)
	}
	return object, nil
}

// List returns the objects of all namespaces.
func (c Cluster) List(ctx context.Context, resource schema.GroupVersionResource) ([]unstructured.Unstructured, error) {
	found, err := c.client.Resource(resource).List(ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(resource, err)
	}
	return found.Items, nil
}

// Select returns the objects of a namespace whose labels match a selector.
func (c Cluster) Select(ctx context.Context, resource schema.GroupVersionResource, namespace, selector string) ([]unstructured.Unstructured, error) {
	found, err := c.client.Resource(resource).Namespace(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, unreadable(resource, err)
	}
	return found.Items, nil
}

func unreadable(resource schema.GroupVersionResource, err error) error {
	return fmt.Errorf("%s can't be read from the cluster now, try again: %w", resource.Resource, err)
}
