// Copyright The Virtualization Authors.
// SPDX-License-Identifier: Apache-2.0

// Package crd installs the platform's own resources, ModuleConfig and Module.
package crd

import (
	"context"
	"embed"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

//go:embed *.yaml
var files embed.FS

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

const (
	establishTimeout  = 30 * time.Second
	establishInterval = 200 * time.Millisecond
)

// Ensure applies the definitions and waits until the API serves them.
func Ensure(ctx context.Context, client dynamic.Interface) error {
	all, err := load()
	if err != nil {
		return err
	}
	for _, definition := range all {
		options := metav1.ApplyOptions{FieldManager: "deckhouse-host", Force: true}
		if _, err := client.Resource(definitions).Apply(ctx, definition.GetName(), definition, options); err != nil {
			return fmt.Errorf("install CRD %s: %w", definition.GetName(), err)
		}
	}
	for _, definition := range all {
		if err := waitEstablished(ctx, client, definition.GetName()); err != nil {
			return err
		}
	}
	return nil
}

func load() ([]*unstructured.Unstructured, error) {
	entries, err := files.ReadDir(".")
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, entry := range entries {
		raw, err := files.ReadFile(entry.Name())
		if err != nil {
			return nil, err
		}
		object := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(raw, &object.Object); err != nil {
			return nil, fmt.Errorf("parse %s: %w", entry.Name(), err)
		}
		all = append(all, object)
	}
	return all, nil
}

func waitEstablished(ctx context.Context, client dynamic.Interface, name string) error {
	err := wait.PollUntilContextTimeout(ctx, establishInterval, establishTimeout, true, func(ctx context.Context) (bool, error) {
		object, err := client.Resource(definitions).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return established(object), nil
	})
	if err != nil {
		return fmt.Errorf("wait until the API serves %s: %w", name, err)
	}
	return nil
}

func established(object *unstructured.Unstructured) bool {
	conditions, _, err := unstructured.NestedSlice(object.Object, "status", "conditions")
	if err != nil {
		return false
	}
	for _, item := range conditions {
		condition, ok := item.(map[string]any)
		if ok && condition["type"] == "Established" && condition["status"] == "True" {
			return true
		}
	}
	return false
}
